r"""SQL that people bring, read as psql would read it: what psql itself would do is refused before psql sees it.

psql is a language of its own: ``\!`` runs programs, ``\copy`` writes files, ``\connect`` goes elsewhere. A dump needs
none of it but the end of data (``\.``), and the pair ``\restrict``, ``\unrestrict`` that newer versions of pg_dump
write, which we take out and put in our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from erp_backup.core.errors import CorruptError, RefusedError

_BATCH = 256 * 1024  # bytes that are handed on at once

_TOKEN = re.compile(
    rb"--[^\n]*|/\*|[eE]'|['\"();\\]|\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$"
    rb"|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*"
)
_COMMENT_PART = re.compile(rb"/\*|\*/")
_ESCAPED_END = re.compile(rb"(?:[^'\\]|\\.|'')*+'", re.DOTALL)
_GUARD = re.compile(rb"\\(restrict|unrestrict) ([A-Za-z0-9]+)\s*")
# What a role without rights may not do and a copy does not need: owners, grants, and settings that only some servers
# know. Each on a line of its own, as pg_dump writes it.
_WORDS = rb"""(?:[^;'"$\\]|"(?:[^"\\]|"")*")*?"""
_LEFT_OUT = re.compile(
    rb"(?:ALTER " + _WORDS + rb" OWNER TO " + _WORDS + rb"|(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES) " + _WORDS + rb""
    rb"|SET (?:default_with_oids|transaction_timeout|idle_session_timeout) = \w+"
    rb"|SET SESSION AUTHORIZATION [^;$\\]*|COMMENT ON EXTENSION [^;'$\\]* IS '[^'\\]*');\s*"
)
_STRINGS = re.compile(rb"standard_conforming_strings(?!\s*(?:=|TO)\s*'?on\b)", re.IGNORECASE)
# Encodings in which a backslash may be half of a letter.
_ENCODINGS = re.compile(
    rb"client_encoding\s*(?:=|TO)\s*'?(?:SJIS|SHIFT_JIS|BIG5|GBK|UHC|GB18030|JOHAB|WIN9[345])|\bSET\s+NAMES\b",
    re.IGNORECASE,
)
_SPACE_OR_COMMENT = re.compile(rb"\s*(?:--[^\n]*)?\s*")


def safe_sql(path: Path) -> Iterator[bytes]:
    """Yield what psql may be given of the SQL at ``path``, in batches of whole lines.

    Raises RefusedError naming the line (never what stands in it) for a command of psql, CorruptError for SQL that is
    cut off. Read it to the end before any of it is used.
    """
    batch: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        for line in _Scanner().lines(file):
            batch.append(line)
            size += len(line)
            if size >= _BATCH:
                yield b"".join(batch)
                batch, size = [], 0
    yield b"".join(batch)


class _Scanner:
    """Where in the SQL we are: in a quote, a comment, a statement, or in the rows that follow ``COPY``."""

    def __init__(self) -> None:
        self._number = 0
        self._until = b""  # the end of what is open: a quote, a dollar quote, ``E'`` or ``*/``
        self._depth = 0  # of comments
        self._parentheses = 0
        self._first = b""  # word of the statement
        self._last = b""  # word outside parentheses
        self._reads_rows = False  # it is COPY ... FROM stdin
        self._is_copying = False
        self._has_begun = False
        self._key = b""
        self._is_over = False

    def lines(self, file: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the lines that may pass."""
        for self._number, line in enumerate(file, start=1):
            if self._is_copying:
                self._is_copying = line.rstrip(b"\r\n") != b"\\."
                yield line
            elif self._may_pass(line):
                yield line
        if self._is_copying or self._until:
            raise CorruptError("The SQL is cut off: it ends within rows, a quote or a comment.")

    def _may_pass(self, line: bytes) -> bool:
        """Whether a line of SQL goes on to psql."""
        if self._is_between_statements():
            if self._is_over and not _SPACE_OR_COMMENT.fullmatch(line):
                raise self._refused("something follows the end of the dump")
            guard = _GUARD.fullmatch(line)
            if guard is not None:
                self._note_guard(guard[1], guard[2])
                return False
            if _LEFT_OUT.fullmatch(line):
                return False
        self._read(line)
        return True

    def _is_between_statements(self) -> bool:
        return not self._until and not self._first and not self._parentheses

    def _note_guard(self, name: bytes, key: bytes) -> None:
        """One at the beginning, one with the same key at the end, as pg_dump writes them."""
        if name == b"restrict" and not self._has_begun and not self._key:
            self._key = key
        elif name == b"unrestrict" and self._key and key == self._key:
            self._is_over = True
        else:
            raise self._refused("a command of psql stands there")

    def _read(self, line: bytes) -> None:
        if _STRINGS.search(line) or _ENCODINGS.search(line):
            raise self._refused("it changes how quotes and letters are read")
        position = 0
        while position < len(line):
            position = self._inside(line, position) if self._until else self._outside(line, position)

    def _inside(self, line: bytes, position: int) -> int:
        """Go on to the end of what is open."""
        if self._until == b"*/":
            return self._in_comment(line, position)
        if self._until == b"\\'":
            match = _ESCAPED_END.match(line, position)
            end = match.end() if match else -1
        else:
            found = line.find(self._until, position)
            end = found + len(self._until) if found >= 0 else -1
        if end < 0:
            return len(line)
        self._until = b""
        return end

    def _in_comment(self, line: bytes, position: int) -> int:
        match = _COMMENT_PART.search(line, position)
        if match is None:
            return len(line)
        self._depth += 1 if match[0] == b"/*" else -1
        self._until = b"*/" if self._depth else b""
        return match.end()

    def _outside(self, line: bytes, position: int) -> int:
        """Take the next token of SQL."""
        match = _TOKEN.search(line, position)
        if match is None:
            return len(line)
        self._take(match[0], line[match.end() :])
        return match.end()

    def _take(self, token: bytes, rest: bytes) -> None:
        if token == b"\\":
            raise self._refused("a command of psql stands there")
        if token == b"/*":
            self._until, self._depth = b"*/", 1
        elif token in {b"'", b'"'} or token[:1] == b"$":
            self._until = token
            self._add(b"'")
        elif token in {b"e'", b"E'"}:
            self._until = b"\\'"
            self._add(b"'")
        elif token in {b"(", b")"}:
            self._add(token)
            self._parentheses = max(0, self._parentheses + (1 if token == b"(" else -1))
        elif token == b";":
            self._end_statement(rest)
        elif not token.startswith(b"--"):
            self._add(token.lower())

    def _add(self, word: bytes) -> None:
        """Note the words that tell COPY from everything else."""
        self._has_begun = True
        if self._parentheses:
            return
        self._first = self._first or word
        self._reads_rows |= (self._first, self._last, word) == (b"copy", b"from", b"stdin")
        self._last = word

    def _end_statement(self, rest: bytes) -> None:
        if self._parentheses:
            return
        if self._reads_rows and rest.strip():
            raise self._refused("something follows COPY")
        self._is_copying = self._reads_rows
        self._first, self._last, self._reads_rows = b"", b"", False

    def _refused(self, why: str) -> RefusedError:
        return RefusedError(
            f"Line {self._number:,} of the SQL is refused: {why}. Nothing of it was run.",
            remedy="Look at that line. A dump that pg_dump has made has no such line; use pg_dump -Fc if you can.",
        )
