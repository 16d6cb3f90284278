"""Codecs: what all of them promise, and what each promises beyond that."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import textwrap
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyrage
import pytest
import zstandard
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from erp_backup.core.codecs import (
    CODECS,
    Age,
    Codec,
    Gzip,
    Meter,
    Zstd,
    closing_source,
    decode_with,
    encode_with,
    limited,
    parse_recipient,
    read_identities,
)
from erp_backup.core.codecs.exchange import Exchange, exchanged
from erp_backup.core.errors import BackupError, CorruptError, KeyUnavailableError

FLIPS, CUTS = 200, 100
MEBIBYTE = 1 << 20


class Boom(Exception):  # noqa: N818 - it only has to be nobody else's
    """An error that only these tests raise."""


def dump_text(rows: int) -> bytes:
    """Something like a dump: rows that resemble each other, with figures that do not."""
    numbers = random.Random(20261122)
    lines = (
        f"{row}\tItem {numbers.randrange(9999)}\t{numbers.randrange(10**6)}.00\t2026-11-{row % 28 + 1:02}\n"
        for row in range(rows)
    )
    return "".join(lines).encode()


CONTENT = dump_text(20_000)


def pieces(data: bytes, size: int = 65_537) -> Iterator[bytes]:
    """The data in pieces of an awkward size."""
    return (data[start : start + size] for start in range(0, len(data), size))


def encoded(codec: Codec, data: bytes = CONTENT) -> bytes:
    """All of the encoded form."""
    return b"".join(codec.encode(pieces(data)))


def decoded(codec: Codec, data: bytes) -> bytes:
    """All of the content."""
    return b"".join(codec.decode(pieces(data)))


def outcome(codec: Codec, damaged: bytes) -> str:
    """What becomes of damaged data: ``detected``, ``same`` content, or ``wrong`` content."""
    try:
        return "same" if decoded(codec, damaged) == CONTENT else "wrong"
    except BackupError:
        return "detected"


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit turned over."""
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@pytest.fixture(scope="module")
def identity() -> str:
    """A secret key."""
    return str(pyrage.x25519.Identity.generate())


@pytest.fixture(scope="module")
def recipient(identity: str) -> str:
    """Its public key."""
    return str(pyrage.x25519.Identity.from_str(identity).to_public())


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """No codec leaves a thread behind."""
    before = set(threading.enumerate())

    yield

    assert set() == set(threading.enumerate()) - before


class CodecContract:
    """What every codec must do."""

    header_size = 0  # bytes at the beginning in which some bits say nothing about the content

    @pytest.fixture
    def codec(self) -> Codec:
        """The codec under test."""
        raise NotImplementedError

    def stock_command(self, tmp_path: Path) -> Sequence[str]:
        """The stock tool that reads this format from its standard input."""
        raise NotImplementedError

    @pytest.mark.parametrize("size", [0, 1, 65_536, 131_072, 131_073, MEBIBYTE, 3 * MEBIBYTE + 1])
    def test_any_size__round_trip(self, codec: Codec, size: int) -> None:
        """What goes in comes out, at every size around the formats' own boundaries."""
        data = random.Random(size).randbytes(size)

        assert data == decoded(codec, encoded(codec, data))

    def test_bytes_one_by_one__round_trip(self, codec: Codec) -> None:
        """The chunks' borders mean nothing."""
        data = encoded(codec, CONTENT[:3000])

        assert CONTENT[:3000] == b"".join(codec.decode(pieces(data, 1)))

    def test_stock_tool__reads_it(self, codec: Codec, tmp_path: Path) -> None:
        """An archive can be read without a line of ours."""
        data = encoded(codec)
        found = subprocess.run(self.stock_command(tmp_path), input=data, capture_output=True, check=True)

        assert CONTENT == found.stdout

    def test_stock_tool__reads_nothing_too(self, codec: Codec, tmp_path: Path) -> None:
        """The encoded form of nothing is a valid file."""
        data = encoded(codec, b"")
        found = subprocess.run(self.stock_command(tmp_path), input=data, capture_output=True, check=True)

        assert b"" == found.stdout

    def test_bits_flip__never_wrong_content(self, codec: Codec) -> None:
        """Damage is detected, except in header bits that do not touch the content."""
        data = encoded(codec)
        numbers = random.Random(1)
        body = [numbers.randrange(8 * self.header_size, 8 * len(data)) for _ in range(FLIPS)]
        header = range(8 * self.header_size)

        assert {"detected"} == {outcome(codec, flipped(data, bit)) for bit in body}
        assert "wrong" not in {outcome(codec, flipped(data, bit)) for bit in header}

    def test_data_is_cut__detected(self, codec: Codec) -> None:
        """A part is never taken for the whole, wherever it ends."""
        data = encoded(codec)
        numbers = random.Random(2)
        sizes = [numbers.randrange(len(data)) for _ in range(CUTS)] + [0, 1, *range(len(data) - 30, len(data))]

        assert {"detected"} == {outcome(codec, data[:size]) for size in sizes}

    @pytest.mark.parametrize("extra", [b"\0", b"\n", b"x" * 300_000, None])
    def test_something_follows__detected(self, codec: Codec, extra: bytes | None) -> None:
        """Nothing may stand behind the end, not even the same thing again."""
        data = encoded(codec)

        assert "detected" == outcome(codec, data + (data if extra is None else extra))

    def test_foreign_data__corrupt_error_names_the_codec(self, codec: Codec) -> None:
        """What is not of this format at all is called so."""
        with pytest.raises(CorruptError, match=codec.name):
            decoded(codec, CONTENT)

    def test_much_content_in_few_bytes__small_chunks(self, codec: Codec) -> None:
        """A bomb does not expand in one gulp: each chunk is small, and the reader may stop."""
        bomb = b"".join(codec.encode(b"\0" * MEBIBYTE for _ in range(64)))
        sizes = [len(chunk) for chunk in codec.decode([bomb])]

        assert 64 * MEBIBYTE == sum(sizes)
        assert 2 * MEBIBYTE >= max(sizes)

    def test_one_huge_chunk__small_chunks(self, codec: Codec) -> None:
        """The size of what comes out does not follow the size of what goes in."""
        data = random.Random(3).randbytes(24 * MEBIBYTE)

        assert 4 * MEBIBYTE >= max(map(len, codec.encode([data])))

    @pytest.mark.parametrize("direction", ["encode", "decode"])
    @pytest.mark.parametrize("chunks_before", [0, 1, 40])
    def test_source_fails__its_error_passes(self, codec: Codec, direction: str, chunks_before: int) -> None:
        """An error of the source arrives as it is: not as damage, and not as the end."""
        data = random.Random(4).randbytes(40 * 65_537)
        whole = data if direction == "encode" else encoded(codec, data)

        def source() -> Iterator[bytes]:
            for number, piece in enumerate(pieces(whole)):
                if number == chunks_before:
                    raise OSError("the line is cut")
                yield piece
            raise OSError("the line is cut")

        with pytest.raises(OSError, match="the line is cut"):
            list(getattr(codec, direction)(source()))

    @pytest.mark.parametrize("direction", ["encode", "decode"])
    def test_reader_gives_up__source_is_closed(self, codec: Codec, direction: str) -> None:
        """Closing the outermost generator ends everything beneath it."""
        closed = []
        data = random.Random(5).randbytes(16 * MEBIBYTE)
        whole = data if direction == "encode" else encoded(codec, data)

        def source() -> Iterator[bytes]:
            try:
                yield from pieces(whole)
            finally:
                closed.append(threading.current_thread())

        with closing_source(getattr(codec, direction)(source())) as chunks:
            next(chunks)

        assert [threading.current_thread()] == closed

    @pytest.mark.parametrize("direction", ["encode", "decode"])
    def test_source__is_read_in_the_readers_thread(self, codec: Codec, direction: str) -> None:
        """A program that the source starts belongs to the reader's thread, which lives long enough."""
        readers = set()
        whole = CONTENT if direction == "encode" else encoded(codec)

        def source() -> Iterator[bytes]:
            for piece in pieces(whole):
                readers.add(threading.current_thread())
                yield piece

        list(getattr(codec, direction)(source()))

        assert {threading.current_thread()} == readers

    def test_file_as_source__stays_open(self, codec: Codec, tmp_path: Path) -> None:
        """A file is closed by whoever opened it."""
        (tmp_path / "data").write_bytes(CONTENT)
        with (tmp_path / "data").open("rb") as file:
            list(codec.encode(file))

            assert not file.closed

    def test_registry__knows_it(self, codec: Codec) -> None:
        """A codec is found by its name."""
        assert type(codec) is CODECS[codec.name]


class TestZstd(CodecContract):
    """Zstandard."""

    header_size = 6  # the frame's header: its window size is only a demand for memory

    @pytest.fixture
    def codec(self) -> Codec:
        """The default: level 1, no threads."""
        return Zstd()

    def stock_command(self, tmp_path: Path) -> Sequence[str]:
        """The stock tool."""
        return ("zstd", "-d", "-c", "-q")

    @pytest.mark.parametrize(("level", "workers"), [(1, 2), (3, 0), (9, 2), (19, 0)])
    def test_level_and_workers__round_trip(self, level: int, workers: int) -> None:
        """Any level and number of threads makes one frame that is read by the same code."""
        codec = Zstd(level=level, workers=workers)
        data = CONTENT * 8

        assert data == decoded(Zstd(), encoded(codec, data))

    def test_frame_without_checksum__refused(self) -> None:
        """A frame that cannot prove its content is not believed."""
        data = zstandard.ZstdCompressor(write_checksum=False).compress(CONTENT)
        with pytest.raises(CorruptError, match="no checksum"):
            decoded(Zstd(), data)

    def test_frame_of_the_stock_tool__read(self) -> None:
        """What ``zstd`` itself writes is read: frames with sizes, single segments, raw and repeated blocks."""
        samples = [CONTENT, b"", b"x", b"\0" * 5_000_000, random.Random(6).randbytes(700_000)]
        made = [
            subprocess.run(("zstd", "-c", "-q"), input=sample, capture_output=True, check=True).stdout
            for sample in samples
        ]
        made += [zstandard.ZstdCompressor(write_checksum=True).compress(sample) for sample in samples]

        assert samples + samples == [decoded(Zstd(), data) for data in made]

    def test_skippable_frame__refused(self) -> None:
        """Nothing can be hidden before or behind the frame."""
        skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"

        assert "detected" == outcome(Zstd(), encoded(Zstd()) + skippable)
        assert "detected" == outcome(Zstd(), skippable + encoded(Zstd()))

    def test_frame_demands_much_memory__refused(self) -> None:
        """A header cannot make us allocate gigabytes."""
        parameters = zstandard.ZstdCompressionParameters(window_log=30, write_checksum=True)
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        data = compressor.compress(CONTENT) + compressor.flush()
        with pytest.raises(CorruptError, match="zstd"):
            decoded(Zstd(), data)

    def test_nested_bomb__stopped_at_the_expected_size(self) -> None:
        """Forty-odd bytes that become a gigabyte are stopped after the size that was promised."""
        once = Zstd().encode(b"\0" * MEBIBYTE for _ in range(1024))
        bomb = encoded(Zstd(), b"".join(once))
        with pytest.raises(CorruptError, match="more than the 1000 bytes"):
            list(limited(decode_with([Zstd(), Zstd()], [bomb]), 1000))

        assert 100_000 > len(bomb)


class TestGzip(CodecContract):
    """gzip."""

    header_size = 10  # flags for names, time and system, of which most say nothing

    @pytest.fixture
    def codec(self) -> Codec:
        """The default level."""
        return Gzip()

    def stock_command(self, tmp_path: Path) -> Sequence[str]:
        """The stock tool."""
        return ("gzip", "-d", "-c")

    def test_same_content__same_bytes(self) -> None:
        """No time and no name stand in the header."""
        data = encoded(Gzip(), b"x")

        assert b"\x1f\x8b\x08\x00\x00\x00\x00\x00" == data[:8]
        assert data == encoded(Gzip(), b"x")

    def test_file_with_a_name__read(self, tmp_path: Path) -> None:
        """What ``gzip`` itself writes, name and time included, is read."""
        (tmp_path / "dump.sql").write_bytes(CONTENT)
        subprocess.run(("gzip", str(tmp_path / "dump.sql")), check=True)

        assert CONTENT == decoded(Gzip(), (tmp_path / "dump.sql.gz").read_bytes())

    def test_zlib_format__refused(self) -> None:
        """Only gzip's own format is gzip."""
        assert "detected" == outcome(Gzip(), zlib.compress(CONTENT))


class TestAge(CodecContract):
    """age."""

    @pytest.fixture
    def codec(self, identity: str, recipient: str) -> Codec:
        """One recipient and its identity."""
        return Age(recipients=(recipient,), identities=(identity,))

    @pytest.fixture(autouse=True)
    def _keep_identity(self, identity: str) -> None:
        self._identity = identity

    def stock_command(self, tmp_path: Path) -> Sequence[str]:
        """The stock tool with the identity in a file."""
        (tmp_path / "key").write_text(self._identity)
        return ("age", "-d", "-i", str(tmp_path / "key"))

    def test_stock_tool_encrypts__read(self, codec: Codec, recipient: str) -> None:
        """What ``age`` itself writes is read."""
        data = subprocess.run(("age", "-r", recipient), input=CONTENT, capture_output=True, check=True).stdout

        assert CONTENT == decoded(codec, data)

    def test_several_recipients__each_opens_it(self, identity: str, recipient: str) -> None:
        """A backup can be opened by any of those it was made for."""
        other = pyrage.x25519.Identity.generate()
        data = encoded(Age(recipients=(recipient, str(other.to_public()))))

        assert CONTENT == decoded(Age(identities=(identity,)), data)
        assert CONTENT == decoded(Age(identities=(str(other),)), data)

    def test_ssh_key__round_trip(self, tmp_path: Path) -> None:
        """An SSH key pair does as well, and its private key file is an identity file."""
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        (tmp_path / "id_ed25519").write_bytes(private)
        (tmp_path / "id_ed25519").chmod(0o600)
        codec = Age(recipients=(public.decode(),), identities=read_identities(tmp_path / "id_ed25519"))

        assert CONTENT == decoded(codec, encoded(codec))

    def test_wrong_identity__key_unavailable(self, codec: Codec) -> None:
        """A key that does not fit is not damage."""
        other = str(pyrage.x25519.Identity.generate())
        with pytest.raises(KeyUnavailableError, match="None of the identities fits"):
            decoded(Age(identities=(other,)), encoded(codec))

    def test_no_identity__key_unavailable(self, codec: Codec) -> None:
        """Without a key nothing is even tried."""
        with pytest.raises(KeyUnavailableError, match="no identity"):
            decoded(Age(), encoded(codec))

    def test_no_recipient__key_unavailable(self) -> None:
        """Nothing is ever written in clear because nobody was named."""
        with pytest.raises(KeyUnavailableError, match="no recipient"):
            encoded(Age())

    def test_damage_late_in_the_data__no_false_byte_before(self, codec: Codec) -> None:
        """What was yielded before the error is a true beginning of the content."""
        content = random.Random(7).randbytes(6 * MEBIBYTE)
        data = encoded(codec, content)
        yielded = bytearray()

        def read() -> None:
            for chunk in codec.decode([flipped(data, 8 * (len(data) - 100))]):
                yielded.extend(chunk)

        with pytest.raises(CorruptError, match="age data is damaged"):
            read()

        assert yielded
        assert content.startswith(yielded)

    def test_bad_recipient__named(self) -> None:
        """A public key with a typing error is shown: it is no secret."""
        with pytest.raises(KeyUnavailableError, match="'age1typo'"):
            parse_recipient("age1typo")

    def test_bad_identity__not_shown(self, identity: str) -> None:
        """A secret key with a typing error is not shown, nor is any key in a codec's repr."""
        damaged = identity[:-1] + ("Q" if identity[-1] != "Q" else "P")
        with pytest.raises(KeyUnavailableError) as caught:
            decoded(Age(identities=(damaged,)), b"")

        assert identity[20:40] not in f"{caught.value} {caught.value.__cause__} {Age(identities=(identity,))!r}"
        assert caught.value.__suppress_context__


class TestReadIdentities:
    """Identity files."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """A private file."""
        path = tmp_path / "key.txt"
        path.touch(mode=0o600)
        return path

    def test_file_of_age_keygen__its_identity(self, tmp_path: Path) -> None:
        """What ``age-keygen`` writes is read; its comments are not."""
        path = tmp_path / "made.txt"
        subprocess.run(("age-keygen", "-o", str(path)), check=True, capture_output=True)
        identities = read_identities(path)

        assert 1 == len(identities)
        assert identities[0].startswith("AGE-SECRET-KEY-1")

    def test_several__all_in_order(self, path: Path) -> None:
        """A file may hold old keys, too."""
        keys = tuple(str(pyrage.x25519.Identity.generate()) for _ in range(3))
        path.write_text("# old and new\n\n" + "\n".join(f"  {key}  " for key in keys) + "\n")

        assert keys == read_identities(path)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
    def test_file_is_open_to_others__refused_with_the_remedy(self, path: Path, identity: str, mode: int) -> None:
        """A secret key that others can read is no secret."""
        path.write_text(identity)
        path.chmod(mode)
        with pytest.raises(KeyUnavailableError) as caught:
            read_identities(path)

        assert f"Run: chmod 600 {path}" == caught.value.remedy

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"# only a comment\n", "no identity in"),
            (b"", "no identity in"),
            (b"\xff\xfe\x00", "it is not text"),
            (b"age-encryption.org/v1\n-> scrypt", "itself encrypted"),
            (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "itself encrypted"),
            (b"AGE-SECRET-KEY-1QQQQ\n", "not a secret key of age"),
            (b"hunter2\n", "not a secret key of age"),
        ],
    )
    def test_file_without_a_usable_key__said_so(self, path: Path, content: bytes, message: str) -> None:
        """Each reason has its words, and none shows the content."""
        path.write_bytes(content)
        with pytest.raises(KeyUnavailableError, match=message) as caught:
            read_identities(path)

        assert "hunter2" not in str(caught.value)

    def test_missing_folder_or_pipe__said_so(self, tmp_path: Path) -> None:
        """What is no file is refused, and a pipe without a writer does not hold the run."""
        os.mkfifo(tmp_path / "pipe", 0o600)
        reasons = []
        for name in ("missing", "", "pipe"):
            with pytest.raises(KeyUnavailableError) as caught:
                read_identities(tmp_path / name)
            reasons.append(caught.value.message.replace(str(tmp_path), "").split(" ", 4)[4])

        assert [
            "cannot be read: No such file or directory.",
            "is not a regular file.",
            "is not a regular file.",
        ] == reasons


class TestExchanged:
    """The thread between a reader and a writer."""

    def test_worker_is_slow__source_waits(self) -> None:
        """The source is not read far ahead of the worker."""
        is_far_ahead = threading.Event()

        def source() -> Iterator[bytes]:
            for number in range(100):
                if number == 20:
                    is_far_ahead.set()
                yield b"x"

        def work(exchange: Exchange) -> None:
            found.append(is_far_ahead.wait(0.5))
            while exchange.read(1):
                pass

        found: list[bool] = []
        list(exchanged(source(), work, name="slow"))

        assert [False] == found

    def test_reader_is_slow__worker_waits(self) -> None:
        """The worker does not write far ahead of the reader."""
        is_far_ahead = threading.Event()

        def work(exchange: Exchange) -> None:
            for number in range(30):
                if number == 20:
                    is_far_ahead.set()
                exchange.write(b"x" * MEBIBYTE)

        with closing_source(exchanged([b"x"], work, name="slow")) as chunks:
            next(chunks)

            assert not is_far_ahead.wait(0.5)

    def test_worker_fails_early__its_error_ends_the_reading(self) -> None:
        """The source is not read to its end for a worker that is gone."""
        read = []

        def source() -> Iterator[bytes]:
            while True:
                read.append(b"x")
                yield b"x"

        def work(exchange: Exchange) -> None:
            exchange.read(1)
            raise Boom

        with pytest.raises(Boom):
            list(exchanged(source(), work, name="failing"))

        assert read


class TestLimited:
    """Exact sizes."""

    def test_exact_size__passes(self) -> None:
        """What is as long as promised passes unchanged."""
        assert [b"ab", b"", b"c"] == list(limited([b"ab", b"", b"c"], 3))

    def test_one_byte_more__stopped_before_it(self) -> None:
        """The first byte too many ends it, and no more is read."""
        read = []

        def endless() -> Iterator[bytes]:
            while True:
                read.append(b"x")
                yield b"x"

        passed: list[bytes] = []
        with pytest.raises(CorruptError, match="more than the 5 bytes"):
            passed.extend(limited(endless(), 5))

        assert 6 == len(read)

    def test_fewer__error_at_the_end(self) -> None:
        """Less than promised is damage, too."""
        with pytest.raises(CorruptError, match="There are 2 bytes instead of the 3"):
            list(limited([b"ab"], 3))


class TestMeter:
    """Size and hash of what passes."""

    def test_stream__unchanged_and_measured(self) -> None:
        """The bytes pass unchanged; afterwards size and hash are theirs."""
        steps: list[int] = []
        meter = Meter(steps.append)
        passed = b"".join(meter.through(pieces(CONTENT)))

        assert CONTENT == passed
        assert (len(CONTENT), hashlib.sha256(CONTENT).hexdigest()) == (meter.size, meter.sha256)
        assert [len(piece) for piece in pieces(CONTENT)] == steps

    def test_nothing__hash_of_nothing(self) -> None:
        """An empty stream has a size and a hash like any other."""
        meter = Meter()

        assert [] == list(meter.through([]))
        assert (0, hashlib.sha256(b"").hexdigest()) == (meter.size, meter.sha256)

    def test_not_read_to_the_end__no_figures(self) -> None:
        """The hash of a part never passes for that of the whole."""
        meter = Meter()
        with closing_source(meter.through(pieces(CONTENT))) as chunks:
            next(chunks)
        with pytest.raises(RuntimeError, match="not read to its end"):
            _ = meter.sha256
        with pytest.raises(RuntimeError, match="not read to its end"):
            _ = meter.size

    def test_second_stream__refused(self) -> None:
        """Two streams never share a hash."""
        meter = Meter()
        list(meter.through([b"a"]))
        with pytest.raises(RuntimeError, match="another stream"):
            list(meter.through([b"b"]))


class TestChains:
    """Several codecs in a row."""

    def test_compressed_and_encrypted__round_trip(self, identity: str, recipient: str) -> None:
        """The first codec is the innermost, in both directions."""
        codecs = [Zstd(), Age(recipients=(recipient,), identities=(identity,))]
        stored = b"".join(encode_with(codecs, pieces(CONTENT)))

        assert stored.startswith(b"age-encryption.org/v1")
        assert CONTENT == b"".join(decode_with(codecs, pieces(stored)))

    def test_no_codec__unchanged(self) -> None:
        """No codec is a chain, too."""
        assert [b"a", b"b"] == list(encode_with([], [b"a", b"b"]))
        assert [b"a", b"b"] == list(decode_with([], [b"a", b"b"]))

    def test_fifteen_times_the_data__same_memory(self) -> None:
        """The memory of a chain there and back does not depend on how much passes."""
        script = """
            import random, resource, sys
            import pyrage
            from erp_backup.core.codecs import Age, Gzip, Zstd, decode_with, encode_with

            key = pyrage.x25519.Identity.generate()
            age = Age(recipients=(str(key.to_public()),), identities=(str(key),))
            piece = random.Random(9).randbytes(1 << 20)
            for codecs in ([Zstd(), age], [Gzip(level=1)]):
                source = (piece for _ in range(int(sys.argv[1])))
                for chunk in decode_with(codecs, encode_with(codecs, source)):
                    pass
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        """
        small, large = (
            int(subprocess.check_output((sys.executable, "-c", textwrap.dedent(script), size))) for size in ("8", "120")
        )

        assert 8 * 1024 > large - small  # KiB: noise, where keeping the data would take 112 MiB

    def test_reader_fails__first_source_is_closed(self, identity: str, recipient: str) -> None:
        """An error in the middle of a long chain ends its beginning at once."""
        closed = []

        def source() -> Iterator[bytes]:
            try:
                yield from (random.Random(8).randbytes(MEBIBYTE) for _ in range(64))
            finally:
                closed.append(True)

        def read_and_fail(chunks: Iterable[bytes]) -> None:
            with closing_source(chunks) as outermost:
                next(outermost)
                raise Boom

        codecs = [Zstd(workers=2), Age(recipients=(recipient,))]
        with pytest.raises(Boom):
            read_and_fail(Meter().through(encode_with(codecs, source())))

        assert [True] == closed
