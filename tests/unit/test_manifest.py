"""Manifests: written in one form, and believed only in that form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from erp_backup.core import jsondata
from erp_backup.core import manifest as manifests
from erp_backup.core.errors import CorruptError, KeyUnavailableError, VersionError
from erp_backup.core.signing import Signer, Verifier, create_key
from tests.support.samples import sample_manifest


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """A key."""
    return create_key(tmp_path_factory.mktemp("keys") / "signing.key")


@pytest.fixture(scope="module")
def verifier(signer: Signer) -> Verifier:
    """Who trusts that key."""
    return Verifier.trusting([signer.public])


def signed(payload: dict[str, Any], signer: Signer) -> bytes:
    """The bytes of any payload, signed as a manifest is."""
    return jsondata.canonical({**payload, "signature": signer.sign(jsondata.canonical(payload))})


def payload_of(raw: bytes) -> dict[str, Any]:
    """A manifest's payload without its signature."""
    payload = json.loads(raw)
    del payload["signature"]
    return payload


class TestRoundTrip:
    """Written and read."""

    def test_every_field__comes_back(self, signer: Signer, verifier: Verifier) -> None:
        """What is written is read."""
        manifest = sample_manifest()

        assert manifest == manifests.read(manifests.write(manifest, signer), verifier)

    def test_written_twice__same_bytes(self, signer: Signer) -> None:
        """Bytes, and so the hash that the next manifest carries, depend on the content only."""
        first, second = (manifests.write(sample_manifest(), signer) for _ in range(2))

        assert first == second
        assert manifests.digest(first) == manifests.digest(second)
        assert manifests.digest(first) != manifests.digest(first[:-1])

    def test_form__one_line_of_sorted_json(self, signer: Signer) -> None:
        """Stock tools read it: the number of the file format stands under `format`, the dump's under `dump_format`."""
        raw = manifests.write(sample_manifest(), signer)
        payload = json.loads(raw)

        assert raw.endswith(b"}\n")
        assert 1 == raw.count(b"\n")
        assert sorted(payload) == list(payload)
        assert (1, "sqlite3") == (payload["format"], payload["dump_format"])

    def test_fields_of_a_later_version__verified_and_ignored(self, signer: Signer, verifier: Verifier) -> None:
        """A later minor version adds fields, which its signature covers."""
        payload = payload_of(manifests.write(sample_manifest(), signer))
        payload["invented"] = {"later": ["on"]}
        payload["figures"]["views"] = []
        raw = signed(payload, signer)

        assert sample_manifest() == manifests.read(raw, verifier)
        with pytest.raises(CorruptError):
            manifests.read(raw.replace(b'"on"', b'"no"'), verifier)

    @pytest.mark.parametrize(
        ("kind", "schemas", "has"),
        [
            ("full", (), (True, True, True)),
            ("schema", (), (False, True, False)),
            ("data", (), (True, False, False)),
            ("full", ("a",), (True, True, False)),
        ],
    )
    def test_kind__says_what_the_archive_holds(
        self, kind: str, schemas: tuple[str, ...], has: tuple[bool, bool, bool]
    ) -> None:
        """Rows, schema, and all that model checks look at."""
        manifest = sample_manifest(kind=kind, schemas=schemas)

        assert has == (manifest.has_data, manifest.has_schema, manifest.has_model_checks)


class TestTampering:
    """Whatever is done to the bytes is found, and named as what it is."""

    def test_every_byte_changed__found(self, signer: Signer, verifier: Verifier) -> None:
        """A flipped bit, a space, a return or a digit in the place of any byte is found, and never crashes."""
        raw = manifests.write(replace(sample_manifest(), measurements=()), signer)
        for place, byte in enumerate(raw):
            for other in {byte ^ 1, byte ^ 0x20, byte ^ 0x80, 0x20, 0x0D, 0x30} - {byte}:
                damaged = raw[:place] + bytes([other]) + raw[place + 1 :]
                with pytest.raises((CorruptError, KeyUnavailableError, VersionError)):
                    manifests.read(damaged, verifier)

    def test_every_cut__found(self, signer: Signer, verifier: Verifier) -> None:
        """No beginning of a manifest is one, nor is one with something behind it."""
        raw = manifests.write(sample_manifest(measurements=()), signer)
        for length in range(len(raw)):
            with pytest.raises((CorruptError, KeyUnavailableError)):
                manifests.read(raw[:length], verifier)
        for more in (b"\n", b" ", b"\0", b"{}"):
            with pytest.raises(CorruptError):
                manifests.read(raw + more, verifier)

    def test_signature_spelled_otherwise__found(self, signer: Signer, verifier: Verifier) -> None:
        """The last digit of base64 has four spellings; only the one that was written is read."""
        raw = manifests.write(sample_manifest(), signer)
        end = raw.index(b'=="', raw.index(b'"signature"')) - 1
        for digit in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/":
            if digit != raw[end]:
                with pytest.raises(CorruptError):
                    manifests.read(raw[:end] + bytes([digit]) + raw[end + 1 :], verifier)

    @pytest.mark.parametrize("form", [{"indent": 1}, {"ensure_ascii": True}, {"sort_keys": False}])
    def test_same_content_in_another_form__found(
        self, signer: Signer, verifier: Verifier, form: dict[str, Any]
    ) -> None:
        """A backup has one hash: its manifest pretty-printed is not its manifest."""
        payload = json.loads(manifests.write(sample_manifest(), signer))
        written = {"ensure_ascii": False, "sort_keys": True, "separators": (",", ":"), **form}
        turned = payload if form.get("sort_keys", True) else dict(reversed(payload.items()))
        with pytest.raises(CorruptError):
            manifests.read(json.dumps(turned, **written).encode() + b"\n", verifier)

    @pytest.mark.parametrize(
        "signature",
        [None, "text", [], {}, {"algorithm": "none"}, {"algorithm": "ed25519", "key": ["k"], "value": ""}],
        ids=repr,
    )
    def test_signature_of_another_kind__found(self, signer: Signer, verifier: Verifier, signature: object) -> None:
        """Nothing but a signature of ours is one."""
        payload = payload_of(manifests.write(sample_manifest(), signer))
        with pytest.raises((CorruptError, KeyUnavailableError)):
            manifests.read(jsondata.canonical({**payload, "signature": signature}), verifier)

    @pytest.mark.parametrize("value", [7, None, "", "ü", "AAAA", "A" * 87 + "=", "A" * 86 + "=="], ids=repr)
    def test_signature_of_another_value__found(self, signer: Signer, verifier: Verifier, value: object) -> None:
        """Whatever stands in the place of the signature's value, the answer is the same."""
        payload = json.loads(manifests.write(sample_manifest(), signer))
        payload["signature"]["value"] = value
        with pytest.raises(CorruptError):
            manifests.read(jsondata.canonical(payload), verifier)

    def test_something_beside_the_signature__found(self, signer: Signer, verifier: Verifier) -> None:
        """A key in the signature's object is signed by nobody."""
        payload = json.loads(manifests.write(sample_manifest(), signer))
        payload["signature"]["note"] = "planted"
        with pytest.raises(CorruptError):
            manifests.read(jsondata.canonical(payload), verifier)

    def test_floating_point__found(self, signer: Signer, verifier: Verifier) -> None:
        """What was never signed is not even verified."""
        raw = manifests.write(sample_manifest(), signer).replace(b'"number":7', b'"number":7.0')
        with pytest.raises(CorruptError, match="never signed"):
            manifests.read(raw, verifier)

    def test_lone_surrogate__found(self, signer: Signer, verifier: Verifier) -> None:
        """An escape that is no character is damage, not a crash."""
        raw = manifests.write(sample_manifest(), signer).replace(b'"db1"', rb'"\ud800"')
        with pytest.raises(CorruptError):
            manifests.read(raw, verifier)

    @pytest.mark.parametrize("depth", [*range(100, 1100, 20), 5_000, 200_000])
    def test_any_nesting__found(self, verifier: Verifier, depth: int) -> None:
        """Nesting that is deeper than the reader or the writer can go is damage, at every depth."""
        with pytest.raises(CorruptError):
            manifests.read(b'{"a":' + b"[" * depth + b"]" * depth + b"}\n", verifier)

    def test_enormous__refused_unread(self, verifier: Verifier) -> None:
        """A file of another size than manifests have is none."""
        with pytest.raises(CorruptError, match="none of ours"):
            manifests.read(bytes(manifests.MAX_SIZE + 1), verifier)


class TestTrust:
    """Whose manifests are read."""

    def test_another_key__not_trusted_here(self, verifier: Verifier, tmp_path: Path) -> None:
        """Another installation's manifest is genuine, but nobody here knows its key."""
        other = create_key(tmp_path / "other.key")
        with pytest.raises(KeyUnavailableError, match="VERIFY_KEYS"):
            manifests.read(manifests.write(sample_manifest(), other), verifier)

    def test_several_keys__each_trusted(self, signer: Signer, tmp_path: Path) -> None:
        """Keys of other machines are trusted beside one's own."""
        other = create_key(tmp_path / "other.key")
        both = Verifier.trusting([signer.public, other.public])

        for key in (signer, other):
            assert sample_manifest() == manifests.read(manifests.write(sample_manifest(), key), both)

    def test_foreign_key_under_a_trusted_identifier__found(
        self, signer: Signer, verifier: Verifier, tmp_path: Path
    ) -> None:
        """A forger who names our key does not have it."""
        payload = payload_of(manifests.write(sample_manifest(), signer))
        forged = create_key(tmp_path / "forger.key").sign(jsondata.canonical(payload))
        [ours] = verifier.keys
        with pytest.raises(CorruptError):
            manifests.read(jsondata.canonical({**payload, "signature": {**forged, "key": ours}}), verifier)


class TestVersions:
    """Formats."""

    @pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
    def test_another_format__version_error(self, signer: Signer, verifier: Verifier, version: object) -> None:
        """A manifest of another format, though signed, is not guessed at."""
        payload = payload_of(manifests.write(sample_manifest(), signer))
        with pytest.raises(VersionError, match="reads format 1"):
            manifests.read(signed({**payload, "format": version}, signer), verifier)

    def test_format_is_looked_at_after_the_signature(self, signer: Signer, verifier: Verifier) -> None:
        """An edited number does not send people to upgrade: it is damage."""
        raw = manifests.write(sample_manifest(), signer).replace(b'"format":1,', b'"format":2,')
        with pytest.raises(CorruptError):
            manifests.read(raw, verifier)

    @pytest.mark.parametrize(("key", "value"), [("id", 5), ("archive", None), ("dump_format", None), ("figures", [])])
    def test_signed_nonsense__corrupt(self, signer: Signer, verifier: Verifier, key: str, value: object) -> None:
        """Even our own key does not make a manifest of something else."""
        payload = payload_of(manifests.write(sample_manifest(), signer))
        with pytest.raises(CorruptError, match="Manifest"):
            manifests.read(signed({**payload, key: value}, signer), verifier)
