"""Manifests, for any content."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from erp_backup.core import jsondata
from erp_backup.core import manifest as manifests
from erp_backup.core.errors import CorruptError, KeyUnavailableError, VersionError
from erp_backup.core.manifest import Manifest
from erp_backup.core.names import is_manifest, is_safe, manifest_name, new_identifier, slug
from erp_backup.core.signing import Signer, Verifier
from tests.support.samples import sample_manifest

SIGNER = Signer(Ed25519PrivateKey.generate())
VERIFIER = Verifier.trusting([SIGNER.public])
# Any text but lone surrogates, which no encoding of text has.
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
any_time = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | any_text,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(any_text, children, max_size=3),
    max_leaves=8,
)
st.register_type_strategy(str, any_text)
st.register_type_strategy(datetime, any_time)
any_manifest = st.builds(Manifest, **{field.name: ... for field in fields(Manifest)})


@given(any_manifest)
def test_any_manifest__comes_back(manifest: Manifest) -> None:
    """What is written is read, whatever stands in it."""
    assert manifest == manifests.read(manifests.write(manifest, SIGNER), VERIFIER)


@given(any_manifest)
def test_any_manifest__one_form(manifest: Manifest) -> None:
    """Written, read and written again, it has the same bytes, and so the same hash in the chain."""
    raw = manifests.write(manifest, SIGNER)

    assert raw == manifests.write(manifests.read(raw, VERIFIER), SIGNER)
    assert raw == jsondata.canonical(json.loads(raw))


@given(st.binary(max_size=200) | any_json.map(lambda data: json.dumps(data).encode()))
def test_any_foreign_bytes__only_our_errors(raw: bytes) -> None:
    """Whatever lies in a location, the error is one of ours."""
    try:
        manifests.read(raw, VERIFIER)
    except (CorruptError, KeyUnavailableError, VersionError):
        return
    raise AssertionError(raw)


@given(key=st.sampled_from(sorted(json.loads(manifests.write(sample_manifest(), SIGNER)))), value=any_json)
def test_any_signed_value__only_our_errors(key: str, value: Any) -> None:
    """Even under our own signature, a value of another type is damage or a version, never a crash."""
    payload = json.loads(manifests.write(sample_manifest(), SIGNER))
    del payload["signature"]
    payload[key] = value
    raw = jsondata.canonical({**payload, "signature": SIGNER.sign(jsondata.canonical(payload))})
    try:
        manifest = manifests.read(raw, VERIFIER)
    except (CorruptError, VersionError):
        return
    assert key == "signature" or isinstance(manifest, Manifest)


@given(any_json)
def test_any_data__canonical_form_is_stable(data: Any) -> None:
    """What was written canonically is, read and written again, the same."""
    raw = jsondata.canonical(data)

    assert raw == jsondata.canonical(json.loads(raw))


@given(any_text)
def test_any_prefix__safe_names(prefix: str) -> None:
    """Whatever a database is called, its archives and manifests have names that every location takes."""
    identifier = new_identifier(prefix, "full", datetime(2026, 1, 5, tzinfo=UTC))

    assert is_safe(identifier)
    assert is_manifest(manifest_name(f"{identifier}.sqlite3.zst.age"))
    assert slug(prefix) == slug(slug(prefix))


@given(any_text)
def test_any_text__safe_only_if_it_is_a_plain_name(text: str) -> None:
    """A safe name leads to no other folder, hides nothing, and has no control character."""
    if is_safe(text):
        assert "/" not in text
        assert not text.startswith((".", "-"))
        assert text.isascii()
        assert text.isprintable()
        assert is_safe(manifest_name(text))
