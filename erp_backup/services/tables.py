"""Some tables of the live database get the rows that they had in the backup, in one transaction.

Rows of other tables that refer to them stay: rows are compared by primary key, and only what is other is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from erp_backup.core.errors import DifferenceError, RefusedError, UsageError
from erp_backup.core.manifest import Manifest
from erp_backup.engines.base import Engine, Scratch
from erp_backup.engines.bridging import (
    Bridge,
    Reference,
    Table,
    listed,
    matched,
    not_null,
    quoted,
    require_equal_columns,
)
from erp_backup.services.environment import Environment
from erp_backup.services.rows import checking
from erp_backup.services.rows.applying import require_unbroken
from erp_backup.services.rows.request import CheckChange

_OURS = "erp_backup_*"  # the history is carried along by restores, never put back


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChange:
    """What became of one table's rows."""

    table: str
    deleted: int  # rows that the backup does not have
    changed: int  # rows that were put back as they were
    inserted: int  # rows that were missing
    rows: int  # rows that it has now, which are the backup's


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesResult:
    """What was done."""

    tables: tuple[TableChange, ...]
    checks: tuple[CheckChange, ...] = ()  # model checks whose figures are others now

    @property
    def report(self) -> dict[str, object]:
        """The same as JSON data, for the history."""
        return {
            "tables": {
                change.table: {
                    "deleted": change.deleted,
                    "changed": change.changed,
                    "inserted": change.inserted,
                    "rows": change.rows,
                }
                for change in self.tables
            },
            "model_checks": {change.check: [change.before, change.after] for change in self.checks},
        }


def restore_tables(
    environment: Environment,
    engine: Engine,
    scratch: Scratch,
    manifest: Manifest,
    tables: Sequence[str],
    *,
    note: Callable[[Bridge, TablesResult], None] = lambda _bridge, _result: None,
) -> TablesResult:
    """Replace the rows of ``tables`` (names as in the database, ``schema.name`` where it has schemas) by the backup's.

    One transaction of the live database, its triggers not fired, its foreign keys and model checks asked at the end:
    all of it or nothing. ``note`` is called inside it, at its end. ``scratch`` is the restored and verified copy.

    Raises UsageError for a table that does not exist, RefusedError for one that is not what it was and where rows would
    refer to nothing (naming the tables, with counts), DifferenceError for a rule of the ERP that would be broken,
    LockedError for what others hold.
    """
    names = [_split(name, engine) for name in dict.fromkeys(tables)]
    if not names:
        raise UsageError("No table was named.", remedy="Name them with --tables a,b.")
    _require_restorable(names, manifest)
    database = manifest.database.alias
    with engine.bridge(scratch, lock=names) as bridge:
        replacement = _Replacement(bridge, [_table(bridge, schema, name) for schema, name in names])
        replacement.require_no_orphans()
        before = checking.measure_inside(environment, bridge.alias, database)
        changes = replacement.run()
        after = checking.measure_inside(environment, bridge.alias, database)
        checks = require_unbroken(tuple(checking.changes_between(before, after)), _MORE_TABLES)
        result = TablesResult(tables=tuple(changes), checks=checks)
        note(bridge, result)
    return result


_MORE_TABLES = "Nothing was changed. Name the tables that belong to them as well, or restore the whole database."


def _split(name: str, engine: Engine) -> tuple[str, str]:
    schema, dot, table = name.partition(".")
    return (schema, table) if dot and engine.vendor != "sqlite" else ("", name)


def _require_restorable(names: Sequence[tuple[str, str]], manifest: Manifest) -> None:
    for _schema, name in names:
        if any(fnmatchcase(name, pattern.rsplit(".", 1)[-1]) for pattern in manifest.excluded_tables):
            raise RefusedError(
                f"The rows of {name} were left out of {manifest.id} on purpose.",
                remedy="Choose a backup that has them.",
            )
        if fnmatchcase(name, _OURS):
            raise RefusedError(f"{name} is the history of backups and restores: it is never put back.")


def _table(bridge: Bridge, schema: str, name: str) -> tuple[Table, Table]:
    """Return the table on both sides. Raises UsageError, RefusedError."""
    live = bridge.live_table(name, schema)
    if live is None:
        raise UsageError(
            f"There is no table {name!r} in the live database.", remedy="Name tables as the database does."
        )
    restored = bridge.restored_table(live)
    if restored is None:
        raise RefusedError(f"The backup has no table {live.label}.", remedy="Choose a backup that has it.")
    require_equal_columns(live, restored)
    if set(live.names) != set(restored.names):
        new = ", ".join(sorted(set(live.names) ^ set(restored.names)))
        raise RefusedError(
            f"The table {live.label} has other columns than when the backup was taken: {new}.",
            remedy="Restore the whole database with --migrate.",
        )
    return live, restored


class _Replacement:
    """The tables, and the relations of the rows that they are to have."""

    def __init__(self, bridge: Bridge, tables: Sequence[tuple[Table, Table]]) -> None:
        self._bridge = bridge
        self._tables = {(live.schema, live.name): live for live, _restored in tables}
        self._staged: dict[tuple[str, str], str] = {}
        for live, restored in tables:
            relation = bridge.stage(restored, live.names)
            if live.key:
                bridge.index(relation, live.key)
            self._staged[live.schema, live.name] = relation
        self._references = [
            reference
            for reference in bridge.references()
            if reference.source in self._tables or reference.target in self._tables
        ]

    # Beforehand

    def require_no_orphans(self) -> None:
        """Raise RefusedError naming every table whose rows would refer to nothing, with counts."""
        orphans = list(self._orphans())
        if orphans:
            raise RefusedError(
                f"Rows would refer to rows that the backup does not have: {'; '.join(orphans)}.",
                remedy="Nothing was changed. Name these tables as well, or delete such rows first.",
            )
        lost = list(self._lost())
        if lost:
            raise RefusedError(
                f"Rows of the backup refer to rows that the live database does not have: {'; '.join(lost)}.",
                remedy="Nothing was changed. Name these tables as well.",
            )

    def _orphans(self) -> Iterator[str]:
        for reference in self._references:
            if reference.target in self._tables and reference.source not in self._tables:
                source = self._bridge.live_table(reference.source[1], reference.source[0])
                target = self._tables[reference.target]
                if source is not None:
                    count = self._bridge.count(
                        source.sql,
                        f"{not_null('c', reference.columns)} AND {_exists(target.sql, reference)} "
                        f"AND NOT {_exists(self._staged[reference.target], reference)}",
                    )
                    if count:
                        yield f"{count} of {source.label} ({', '.join(reference.columns)} -> {target.label})"

    def _lost(self) -> Iterator[str]:
        for reference in self._references:
            if reference.source in self._tables and reference.target not in self._tables:
                source = self._tables[reference.source]
                target = self._bridge.live_table(reference.target[1], reference.target[0])
                if target is not None:
                    count = self._bridge.count(
                        self._staged[reference.source],
                        f"{not_null('c', reference.columns)} AND NOT {_exists(target.sql, reference)}"
                        f"{_not_as_now(source, reference)}",
                    )
                    if count:
                        yield f"{count} of {source.label} ({', '.join(reference.columns)} -> {target.label})"

    # The work

    def run(self) -> list[TableChange]:
        """Delete, change, insert, then check; what refers goes first and comes last."""
        tables = self._in_order()
        plans = {table.sql: self._counts(table) for table in tables}
        self._bridge.begin_writing(tables)
        for table in reversed(tables):
            self._delete(table)
        for table in tables:
            if self._keeps_rows(table):
                self._update(table)
        for table in tables:
            self._insert(table)
        self._bridge.end_writing(tables)
        return [self._change(table, *plans[table.sql]) for table in tables]

    def _in_order(self) -> list[Table]:
        """Return the tables that are referred to first."""
        ordered: list[tuple[str, str]] = []
        waiting = list(self._tables)
        while waiting:
            free = [name for name in waiting if not self._waits_for(name, waiting)] or waiting[:1]
            ordered += free
            waiting = [name for name in waiting if name not in free]
        return [self._tables[name] for name in ordered]

    def _waits_for(self, name: tuple[str, str], others: Sequence[tuple[str, str]]) -> bool:
        return any(r.source == name and r.target in others and r.target != name for r in self._references)

    def _staged_of(self, table: Table) -> str:
        return self._staged[table.schema, table.name]

    def _keeps_rows(self, table: Table) -> bool:
        """Whether changed rows must be updated: deleting them would do something to rows that refer to them."""
        return any(r.target == (table.schema, table.name) and r.acts_on_delete for r in self._references)

    def _differs(self, table: Table, left: str, right: str) -> str:
        columns = [column for column in table.columns if not column.is_generated and column.name not in table.key]
        tests = [
            self._bridge.differs(column, f"{left}.{quoted(column.name)}", f"{right}.{quoted(column.name)}")
            for column in columns
        ]
        return f"({' OR '.join(tests)})" if tests else "(1 = 0)"

    def _counts(self, table: Table) -> tuple[int, int, int]:
        """Return how many rows are to go, to change and to come."""
        staged = self._staged_of(table)
        if not table.key:
            return self._bridge.count(table.sql), 0, self._bridge.count(staged)
        key = matched("l", "b", table.key)
        gone = self._bridge.count(table.sql, _has_no(staged, "c", table))
        new = self._bridge.count(staged, _has_no(table.sql, "c", table))
        changed = self._bridge.value(
            f"SELECT count(*) FROM {table.sql} AS l JOIN {staged} AS b ON {key} WHERE {self._differs(table, 'l', 'b')}"  # noqa: S608
        )
        return gone, int(changed), new

    def _delete(self, table: Table) -> None:
        where = ""
        if table.key:
            same = f" AND NOT {self._differs(table, 'l', 't')}" if not self._keeps_rows(table) else ""
            where = f" WHERE {_has_no(self._staged_of(table), 'l', table, same)}"
        self._bridge.execute(f"DELETE FROM {table.sql} AS l{where}")  # noqa: S608 - quoted identifiers

    def _update(self, table: Table) -> None:
        names = [name for name in table.writable if name not in table.key]
        if table.key and names:
            values = ", ".join(f"{quoted(name)} = b.{quoted(name)}" for name in names)
            self._bridge.execute(
                f"UPDATE {table.sql} AS l SET {values} FROM {self._staged_of(table)} AS b "  # noqa: S608
                f"WHERE {matched('l', 'b', table.key)} AND {self._differs(table, 'l', 'b')}"
            )

    def _insert(self, table: Table) -> None:
        where = ""
        if table.key:
            where = f" WHERE {_has_no(table.sql, 'b', table)}"
        select = f"SELECT {listed(table.writable, 'b')} FROM {self._staged_of(table)} AS b{where}"  # noqa: S608
        self._bridge.insert(table, table.writable, select)

    def _change(self, table: Table, deleted: int, changed: int, inserted: int) -> TableChange:
        """Prove that the table now has the backup's rows, and no other."""
        rows, expected = self._bridge.count(table.sql), self._bridge.count(self._staged_of(table))
        left = self._counts(table) if table.key else (0, 0, 0)
        if rows != expected or any(left):
            raise DifferenceError(
                f"{table.label} has {rows} rows after the restore, and the backup {expected}; {sum(left)} differ.",
                remedy="Nothing was changed. A trigger or rule of the database may write to it.",
            )
        return TableChange(table=table.label, deleted=deleted, changed=changed, inserted=inserted, rows=rows)


def _exists(relation: str, reference: Reference) -> str:
    condition = matched("t", "c", reference.target_columns, reference.columns)
    return f"EXISTS (SELECT 1 FROM {relation} AS t WHERE {condition})"  # noqa: S608 - quoted identifiers


def _has_no(relation: str, alias: str, table: Table, more: str = "") -> str:
    """Return the condition that a relation has no row of the same primary key."""
    return f"NOT EXISTS (SELECT 1 FROM {relation} AS t WHERE {matched('t', alias, table.key)}{more})"  # noqa: S608


def _not_as_now(source: Table, reference: Reference) -> str:
    """Leave out rows that refer to nothing now as well: where nobody checks, that was so in the source."""
    if not source.key:
        return ""
    same = matched("s", "c", [*source.key, *reference.columns])
    return f" AND NOT EXISTS (SELECT 1 FROM {source.sql} AS s WHERE {same})"  # noqa: S608 - quoted identifiers
