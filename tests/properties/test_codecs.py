"""Codecs, for any content in any pieces."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erp_backup.core.codecs import Age, Codec, Gzip, Meter, Zstd, limited
from erp_backup.core.errors import BackupError, CorruptError

IDENTITY = pyrage.x25519.Identity.generate()
CODECS: list[Codec] = [
    Zstd(),
    Zstd(level=3, workers=1),
    Gzip(),
    Age(recipients=(str(IDENTITY.to_public()),), identities=(str(IDENTITY),)),
]
any_codec = st.sampled_from(CODECS)
# Repeated pieces as well as random ones: codecs treat them by different means.
any_chunk = st.binary(max_size=300) | st.builds(
    lambda piece, times: piece * times, st.binary(min_size=1, max_size=8), st.integers(0, 40_000)
)
any_chunks = st.lists(any_chunk, max_size=6)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The data cut at some places."""
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(borders)]


@given(codec=any_codec, chunks=any_chunks, places=st.lists(st.integers(0, 10**6), max_size=5))
@settings(deadline=None)
def test_any_chunks__round_trip(codec: Codec, chunks: list[bytes], places: list[int]) -> None:
    """Content survives, however it and its encoded form are cut."""
    encoded = b"".join(codec.encode(chunks))

    assert b"".join(chunks) == b"".join(codec.decode(cut(encoded, places)))


@given(codec=any_codec, chunks=any_chunks, place=st.integers(0, 10**6), mask=st.integers(1, 255))
@settings(deadline=None)
def test_any_byte_changes__never_wrong_content(codec: Codec, chunks: list[bytes], place: int, mask: int) -> None:
    """A changed byte is detected or does not matter; it never makes other content."""
    encoded = bytearray(b"".join(codec.encode(chunks)))
    encoded[place % len(encoded)] ^= mask
    try:
        found = b"".join(codec.decode([bytes(encoded)]))
    except BackupError:
        return

    assert b"".join(chunks) == found


@given(codec=any_codec, chunks=any_chunks, place=st.integers(0, 10**6))
@settings(deadline=None)
def test_any_cut__detected(codec: Codec, chunks: list[bytes], place: int) -> None:
    """No beginning of an encoded form is an encoded form."""
    encoded = b"".join(codec.encode(chunks))
    with pytest.raises(BackupError):
        list(codec.decode([encoded[: place % len(encoded)]]))


@given(codec=any_codec, chunks=any_chunks, extra=st.binary(min_size=1, max_size=40))
@settings(deadline=None)
def test_anything_follows__detected(codec: Codec, chunks: list[bytes], extra: bytes) -> None:
    """No continuation of an encoded form is an encoded form."""
    encoded = b"".join(codec.encode(chunks))
    with pytest.raises(CorruptError):
        list(codec.decode([encoded, extra]))


@given(codec=any_codec, data=st.binary(max_size=200))
@settings(deadline=None)
def test_any_foreign_data__only_our_errors(codec: Codec, data: bytes) -> None:
    """Whatever is fed to a codec, the error is one of ours."""
    with pytest.raises(BackupError):
        list(codec.decode([data]))


@given(chunks=any_chunks, size=st.integers(0, 400_000))
def test_any_limit__exactly_that_size_or_an_error(chunks: list[bytes], size: int) -> None:
    """A limit lets pass what is of its size, and nothing else to the end."""
    content = b"".join(chunks)
    passed = bytearray()
    try:
        for chunk in limited(chunks, size):
            passed += chunk
        is_complete = True
    except CorruptError:
        is_complete = False

    assert (len(content) == size) == is_complete
    assert len(passed) <= size
    assert content.startswith(passed)


@given(chunks=any_chunks)
def test_any_chunks__metered_as_their_concatenation(chunks: list[bytes]) -> None:
    """A meter's figures do not depend on the pieces."""
    meter = Meter()
    content = b"".join(meter.through(chunks))

    assert (len(content), hashlib.sha256(content).hexdigest()) == (meter.size, meter.sha256)
