"""Bringing the whole history from one database to another, so that it survives the restore it records.

Rows are recognized by what they say, never by their number: an event is the same event in both databases. All of it is
one transaction on the target; done twice it gives the same. Rows are read in pieces, never all of them at once.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import Error, connections, router, transaction
from django.db.models import Field, ForeignKey, Max, Model, QuerySet
from django.db.models.sql import InsertQuery

from erp_backup.core.errors import DatabaseError
from erp_backup.models import Backup, Copy, Event, Finding, Restore, Verification

PIECE = 500  # rows that are read and compared together; SQLite takes only so many values in one statement
_LOCK_LIMIT = "30s"  # how long another session may hold the target's history; PostgreSQL's own spelling

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedTable:
    """What became of one table's rows; ``renumbered`` are those of the inserted whose number was taken."""

    table: str
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    renumbered: int = 0
    left: int = 0  # rows that belong to one that is not there


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What was carried over. ``missing`` names, in words, the tables and columns that one of the two does not have."""

    tables: tuple[CarriedTable, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def inserted(self) -> int:
        """How many rows were not in the target."""
        return sum(table.inserted for table in self.tables)

    @property
    def updated(self) -> int:
        """How many rows said something else in the target."""
        return sum(table.updated for table in self.tables)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How the rows of one model are recognized.

    Rows with the same value in the column ``lead`` are looked at together; among these, those that are equal in ``key``
    are told apart by their order.
    """

    model: type[Model]
    lead: str
    key: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """The table's name."""
        return self.model._meta.db_table

    @property
    def pk(self) -> str:
        """The name of the primary key's attribute."""
        return self.model._meta.pk.attname

    def key_of(self, row: Row) -> tuple[Any, ...]:
        """Return what ``row`` is recognized by."""
        return tuple(row[name] for name in (self.lead, *self.key))


# Every model of the app, those that others refer to first.
KINDS = (
    Kind(model=Backup, lead="name"),
    Kind(model=Copy, lead="backup_id", key=("location",)),
    Kind(model=Verification, lead="started_at", key=("backup_name", "level", "actor")),
    Kind(model=Finding, lead="verification_id"),
    Kind(model=Restore, lead="name"),
    Kind(model=Event, lead="at", key=("kind", "subject", "message", "actor")),
)


def history_is_in(alias: str) -> bool:
    """Whether the host keeps the history in the database ``alias``: else no restore of it touches the history."""
    return router.db_for_write(Backup) == alias


def carry(source: str, target: str) -> Carried:
    """Bring every row of the history from the alias ``source`` to ``target``, in one transaction there.

    What is there already gets the source's values; what only the target has stays. Raises DatabaseError, and then
    nothing was changed.
    """
    if source == target:
        return Carried()
    try:
        with _as_of_now(source), transaction.atomic(using=target):
            return _Carrier(source, target).carry()
    except Error as error:
        said = str(error).strip().splitlines()
        raise DatabaseError(
            f"The history could not be carried over: {type(error).__name__}: {said[0] if said else ''}",
            remedy="It is as it was. Look at the database, then run this again.",
        ) from error


@contextlib.contextmanager
def _as_of_now(alias: str) -> Iterator[None]:
    """See one state of the source to the end, where that holds nobody up (a reader of SQLite would hold up writers)."""
    connection = connections[alias]
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        yield
        return
    with transaction.atomic(using=alias):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


@dataclass(slots=True)
class _Carrier:
    """One run. ``numbers`` has, for each model that others refer to, the target's number of each of its rows."""

    source: str
    target: str
    numbers: dict[type[Model], dict[Any, Any]] = field(default_factory=lambda: defaultdict(dict))
    missing: list[str] = field(default_factory=list)

    def carry(self) -> Carried:
        shapes = [shape for kind in KINDS if (shape := self._shape_of(kind)) is not None]
        _keep_writers_out(self.target, [shape.kind for shape in shapes])
        tables = tuple(self._carry(shape) for shape in shapes)
        return Carried(tables=tables, missing=tuple(self.missing))

    def _shape_of(self, kind: Kind) -> _Shape | None:
        """Compare the tables of both sides with the model; None where rows cannot be carried."""
        columns = {}
        for side, alias in (("live history", self.source), ("restored copy", self.target)):
            found = _columns(alias, kind.table)
            if found is None:
                self.missing.append(f"The {side} has no table {kind.table}.")
                return None
            columns[alias] = found
            absent = [f.column for f in kind.model._meta.concrete_fields if f.column not in found]
            self.missing += [f"The {side} has no column {kind.table}.{column}." for column in absent]
        there = tuple(f for f in kind.model._meta.concrete_fields if f.column in columns[self.target])
        both = tuple(f.attname for f in there if f.column in columns[self.source])
        return _Shape(kind=kind, fields=there, names=both) if {kind.pk, kind.lead, *kind.key} <= {*both} else None

    def _carry(self, shape: _Shape) -> CarriedTable:
        kind = shape.kind
        target: QuerySet[Any] = QuerySet(kind.model, using=self.target)
        count: dict[str, int] = defaultdict(int)
        following = _first_free(kind, self.source, self.target)
        for rows in _pieces(kind, QuerySet(kind.model, using=self.source).values(*shape.names)):
            arriving = [row for given in rows if (row := self._translated(kind, given)) is not None]
            count["left"] += len(rows) - len(arriving)
            new = self._update(shape, target, arriving, count)
            following = self._insert(shape, target, new, following, count)
        _raise_sequence(self.target, kind)
        return CarriedTable(table=kind.table, **count)

    def _translated(self, kind: Kind, given: Row) -> _Arriving | None:
        """Return the row with the target's numbers for what it refers to; None where that is not there."""
        row = dict(given)
        for reference in _references(kind.model):
            name = reference.attname
            if row.get(name) is not None:
                row[name] = self.numbers[reference.related_model].get(row[name])
                if row[name] is None and not reference.null:
                    return None
        return _Arriving(number=row.pop(kind.pk), row=row)

    def _note(self, model: type[Model], number: Any, new: Any) -> None:
        """Remember a row's number in the target, where anything refers to such rows: events would fill the memory."""
        if model in _REFERRED:
            self.numbers[model][number] = new

    def _update(
        self, shape: _Shape, target: QuerySet[Any], arriving: list[_Arriving], count: dict[str, int]
    ) -> list[_Arriving]:
        """Give the target's own rows the source's values; return the rows that it does not have."""
        kind = shape.kind
        known: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
        leads = {one.row[kind.lead] for one in arriving}
        for row in target.filter(**{f"{kind.lead}__in": leads}).order_by("-pk").values(*shape.names):
            known[kind.key_of(row)].append(row)  # the first of equals at the end, where pop takes it
        crowded, new = frozenset(known), []
        for one in arriving:
            key = kind.key_of(one.row)
            if not known[key]:
                one.is_last = key in crowded
                new.append(one)
                continue
            found = known[key].pop()
            self._note(kind.model, one.number, found[kind.pk])
            changed = {name: value for name, value in one.row.items() if value != found[name]}
            if changed:
                target.filter(pk=found[kind.pk]).update(**changed)
            count["updated" if changed else "unchanged"] += 1
        return new

    def _insert(
        self, shape: _Shape, target: QuerySet[Any], new: list[_Arriving], following: int, count: dict[str, int]
    ) -> int:
        """Insert ``new``, each under its own number where it can have that; return the next number that is free."""
        kind, taken, objects = shape.kind, set[Any](), []
        for some in _sliced([one.number for one in new], PIECE):
            taken.update(target.filter(pk__in=some).values_list("pk", flat=True))
        moved = set[Any]()  # what is recognized by its order keeps it: the equals of a moved row move, too
        for one in new:
            number, key = one.number, kind.key_of(one.row)
            if one.is_last or number in taken or key in moved:
                moved.add(key)
                number, following = following, following + 1
                count["renumbered"] += 1
            self._note(kind.model, one.number, number)
            objects.append(kind.model(**one.row, **{kind.pk: number}))
        _insert(self.target, kind.model, shape.fields, objects)
        count["inserted"] += len(objects)
        return following


@dataclass(slots=True, kw_only=True)
class _Arriving:
    """A row of the source: its number there, and the rest of it as the target is to have it."""

    number: Any
    row: Row
    is_last: bool = False  # the target has equal rows, which it must stand behind to be told apart from them again


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What can be carried of a model: the target's columns, and the attributes that both sides have."""

    kind: Kind
    fields: tuple[Field[Any, Any], ...]
    names: tuple[str, ...]


def _columns(alias: str, table: str) -> set[str] | None:
    """Return the names of a table's columns, None where there is no such table."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            return None
        return {column.name for column in connection.introspection.get_table_description(cursor, table)}


def _references(model: type[Model]) -> list[ForeignKey[Any, Any]]:
    return [found for found in model._meta.concrete_fields if isinstance(found, ForeignKey)]


_REFERRED = frozenset(reference.related_model for kind in KINDS for reference in _references(kind.model))


def _pieces(kind: Kind, rows: QuerySet[Any, Row]) -> Iterator[list[Row]]:
    """Yield all rows, those with the same value in ``lead`` always together, in the order of their numbers."""
    piece = list(rows.order_by(kind.lead, "pk")[:PIECE])
    while piece:
        last = piece[-1]
        rest = rows.filter(**{kind.lead: last[kind.lead], "pk__gt": last[kind.pk]})
        yield piece + list(rest.order_by("pk"))
        piece = list(rows.filter(**{f"{kind.lead}__gt": last[kind.lead]}).order_by(kind.lead, "pk")[:PIECE])


def _first_free(kind: Kind, *aliases: str) -> int:
    """Return a number beyond every one that either side has."""
    sides: list[QuerySet[Any]] = [QuerySet(kind.model, using=alias) for alias in aliases]
    return 1 + max(side.aggregate(top=Max("pk"))["top"] or 0 for side in sides)


def _sliced(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _insert(alias: str, model: type[Model], fields: Sequence[Field[Any, Any]], objects: list[Model]) -> None:
    """Insert into the columns that the table has; ``bulk_create`` would name every column of the model."""
    size = max(1, connections[alias].ops.bulk_batch_size(fields, objects))
    for some in _sliced(objects, size):
        query = InsertQuery(model)
        query.insert_values(fields, list(some), raw=True)
        query.get_compiler(using=alias).execute_sql()


def _keep_writers_out(alias: str, kinds: Iterable[Kind]) -> None:
    """Lock the target's history to its end, so that nobody takes a number, or adds a row, that we are about to add."""
    connection = connections[alias]
    names = [connection.ops.quote_name(kind.table) for kind in kinds]
    if not names:
        return
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_LIMIT}'")
            cursor.execute(f"LOCK TABLE {', '.join(names)} IN SHARE ROW EXCLUSIVE MODE")
        else:
            # Who begins by reading cannot write any more once somebody else has.
            cursor.execute(f"DELETE FROM {names[0]} WHERE 0 = 1")  # noqa: S608 - a quoted name


def _raise_sequence(alias: str, kind: Kind) -> None:
    """Set PostgreSQL's sequence behind the greatest number, never back; SQLite does that by itself."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return
    name = str(kind.model._meta.pk.column)
    table, column = connection.ops.quote_name(kind.table), connection.ops.quote_name(name)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", [table, name])
        (sequence,) = cursor.fetchone()
        if sequence is not None:
            cursor.execute(
                f"SELECT setval(%s, r.top) FROM (SELECT max({column}) AS top FROM {table}) r, {sequence} s "  # noqa: S608
                "WHERE r.top >= s.last_value",
                [sequence],
            )
