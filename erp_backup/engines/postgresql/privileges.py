"""Rights of other roles, given back from the archive: a copy that people work with lets in whom its source let in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import psycopg

from erp_backup.core.process import Command, ProcessRunner, base_environment
from erp_backup.engines.postgresql.connecting import Connection, first_line

# A line of pg_restore's list: number; catalog and object, kind, schema, name, owner.
_ENTRY = re.compile(r"\d+; \d+ \d+ (?:DEFAULT ACL|ACL) ")
# A statement to its semicolon, with quoted names and texts as a whole; lines between statements are psql's or comments.
_STATEMENT = re.compile(r"""(?:"[^"]*"|'[^']*'|[^"';])*;""")
_BETWEEN = re.compile(r"(?:\s+|--[^\n]*(?:\n|\Z)|\\[^\n]*(?:\n|\Z))*")
_ABOUT_RIGHTS = re.compile(r"GRANT|REVOKE|ALTER DEFAULT PRIVILEGES")


# In the schema that every database is born with.
_FOR_EVERYBODY = re.compile(r" ON SCHEMA public (?:TO|FROM) PUBLIC\Z")
_OWNS_PUBLIC = "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'public'"
_EVERYBODY = """
SELECT a.privilege_type FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
WHERE n.nspname = 'public' AND a.grantee = 0 ORDER BY 1
"""


def differs_for_everybody(live: Connection, copy: Connection) -> tuple[str, ...]:
    """Return what everybody may do in the schema ``public`` of one only, in words, if that is not ours to give."""
    before, now = ({right for (right,) in one.execute(_EVERYBODY).fetchall()} for one in (live, copy))
    if before == now or copy.execute(_OWNS_PUBLIC).fetchone() == (True,):
        return ()
    allowed = ", ".join(sorted(now)) or "nothing"
    return (
        f"In the schema public everybody has {allowed}, and not {', '.join(sorted(before)) or 'nothing'} as before.",
    )


def statements_of(runner: ProcessRunner, program: Path, archive: Path, listing: Path) -> list[str]:
    """Return what gives and takes rights in an archive of ours, as single statements; ``listing`` is a file of ours.

    ``program`` is pg_restore. Raises ProgramError.
    """
    listed = runner.run(Command(argv=(str(program), "--list", str(archive)), env=base_environment()))
    entries = [line for line in listed.stdout.decode(errors="surrogateescape").splitlines() if _ENTRY.match(line)]
    if not entries:
        return []
    listing.write_text("\n".join(entries) + "\n", errors="surrogateescape")
    argv = (str(program), "--no-owner", f"--use-list={listing}", "--file=-", str(archive))
    script = runner.run(Command(argv=argv, env=base_environment())).stdout.decode()
    listing.unlink()
    return [text for text in split(script) if _ABOUT_RIGHTS.match(text)]


def split(script: str) -> Iterator[str]:
    """Yield the statements of a script of pg_restore's that holds rights alone."""
    place = 0
    while True:
        between = _BETWEEN.match(script, place)
        place = between.end() if between else place
        match = _STATEMENT.match(script, place)
        if match is None:
            return
        yield match[0].removesuffix(";").strip()
        place = match.end()


def give(connection: Connection, statements: Iterable[str]) -> tuple[str, ...]:
    """Run each statement by itself; return what could not be done, in words: a role may be gone, or not be ours.

    Up to PostgreSQL 14 the schema ``public`` is the first superuser's, and every archive says something about it: see
    :func:`differs_for_everybody`.
    """
    refused: Counter[str] = Counter()
    if connection.execute(_OWNS_PUBLIC).fetchone() != (True,):
        statements = [text for text in statements if not _FOR_EVERYBODY.search(text)]

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        """Where only some of it may be given, the server warns."""
        refused[diagnostic.message_primary or "a warning"] += 1

    connection.add_notice_handler(note)
    try:
        for statement in statements:
            try:
                with connection.transaction():
                    connection.execute(statement.encode())
            except (psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
                refused[first_line(error)] += 1
    finally:
        connection.remove_notice_handler(note)
    return tuple(
        f"Rights that the backup has could not be given back: {why}{f' ({count} times)' if count > 1 else ''}."
        for why, count in refused.items()
    )
