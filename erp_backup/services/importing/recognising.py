"""What a file is, by its content: names are chosen by people, and by whoever wants to be taken for something else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from erp_backup.core.errors import BackupError, CorruptError, RefusedError
from erp_backup.engines.postgresql.customformat import MAGIC as CUSTOM_MAGIC

HEAD_SIZE = 64 * 1024  # bytes that tell what a file is

_SQLITE_MAGIC = b"SQLite format 3\0"
_TAR_AT, _TAR_MAGIC = 257, b"ustar"
_PG_PLAIN = b"-- PostgreSQL database dump\n"
_PG_CLUSTER = b"-- PostgreSQL database cluster dump\n"
_START = rb"(?:\s|--[^\n]*\n)*"
# sqlite3's .dump; and django-dbbackup's own writer, which knows neither transaction nor end.
_SQLITE_DUMP = re.compile(_START + rb"(?:PRAGMA foreign_keys\s*=\s*OFF;\s*)?BEGIN(?: TRANSACTION)?;", re.IGNORECASE)
_SQLITE_TEXT = re.compile(_START + rb"CREATE TABLE IF NOT EXISTS [\"\w]", re.IGNORECASE)
# Packets that a message begins with: a key encrypted to somebody (1) or by a passphrase (3), old and new form.
_PGP = re.compile(
    rb"(?:\x84.|\x85..|\xc1(?:[\x00-\xbf]|[\xc0-\xdf].))\x03|(?:\x8c.|\xc3[\x00-\xbf])[\x04\x05]", re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of content: ``vendor`` and ``format`` in the engine's words, or ``codec``, what is to be undone first."""

    title: str
    vendor: str = ""
    format: str = ""
    codec: str = ""  # zstd, gzip, age, gpg

    @property
    def is_encoded(self) -> bool:
        """Whether something else is inside."""
        return bool(self.codec)


CUSTOM = Kind(title="an archive of pg_dump -Fc", vendor="postgresql", format="custom")
PLAIN = Kind(title="SQL of pg_dump", vendor="postgresql", format="plain")
SQLITE_FILE = Kind(title="a database file of SQLite", vendor="sqlite", format="sqlite3")
SQLITE_DUMP = Kind(title="SQL of sqlite3 .dump", vendor="sqlite", format="sql")
SQLITE_TEXT = Kind(title="SQL of django-dbbackup for SQLite", vendor="sqlite", format="sql")
GZIP = Kind(title="gzip", codec="gzip")
ZSTD = Kind(title="zstd", codec="zstd")
AGE = Kind(title="age", codec="age")
GPG = Kind(title="gpg", codec="gpg")

_KINDS: tuple[tuple[Kind, Callable[[bytes], object]], ...] = (
    (CUSTOM, lambda head: head.startswith(CUSTOM_MAGIC)),
    (SQLITE_FILE, lambda head: head.startswith(_SQLITE_MAGIC)),
    (GZIP, lambda head: head.startswith(b"\x1f\x8b")),
    (ZSTD, lambda head: head.startswith(b"\x28\xb5\x2f\xfd")),
    (AGE, lambda head: head.startswith(b"age-encryption.org/v1\n")),
    (GPG, lambda head: head.startswith(b"-----BEGIN PGP MESSAGE-----") or _PGP.match(head)),
    (PLAIN, lambda head: _PG_PLAIN in head[:4096].replace(b"\r\n", b"\n")),
    (SQLITE_DUMP, _SQLITE_DUMP.match),
    (SQLITE_TEXT, _SQLITE_TEXT.match),
)
_PACKED = {
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"\x04\x22\x4d\x18": "lz4",
}


def recognise(head: bytes) -> Kind:
    """Return what the first bytes (:data:`HEAD_SIZE` of them, or all) are of.

    Raises CorruptError for nothing at all, RefusedError for what is something else, in words.
    """
    if not head:
        raise CorruptError("It is empty.", remedy="Whatever made it failed; use another one.")
    found = next((kind for kind, fits in _KINDS if fits(head)), None)
    if found is None:
        raise _refusal(head)
    return found


def _refusal(head: bytes) -> BackupError:
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")
    if packed:
        return RefusedError(f"It is packed with {packed}.", remedy="Unpack it first, then import what was in it.")
    if head[_TAR_AT:].startswith(_TAR_MAGIC):
        return RefusedError(
            "It is a tar archive: media files, or pg_dump's tar format, which cannot be imported.",
            remedy="Dump databases with pg_dump -Fc, or restore it into a new database and back that one up.",
        )
    if _PG_CLUSTER in head[:4096]:
        return RefusedError(
            "It is SQL of pg_dumpall, for a whole server.", remedy="Dump one database with pg_dump -Fc instead."
        )
    if b"MySQL dump" in head[:4096] or b"MariaDB dump" in head[:4096]:
        return RefusedError("It is a dump of MySQL, for which there is no engine here.")
    what = "text" if _is_text(head) else "something else"
    return RefusedError(
        f"It is no archive of a database that is known here, but {what}.",
        remedy="Known are: pg_dump's SQL and -Fc, SQLite's files and .dump, each also in gzip, zstd, age or gpg.",
    )


def _is_text(head: bytes) -> bool:
    return b"\0" not in head and all(byte >= 32 or byte in b"\t\n\r\f\x1b" for byte in head[:4096])  # noqa: PLR2004


def head_of(chunks: Iterable[bytes]) -> bytes:
    """Return the first bytes of a stream, for :func:`recognise`; the rest of it is not read."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= HEAD_SIZE:
            break
    return head[:HEAD_SIZE]
