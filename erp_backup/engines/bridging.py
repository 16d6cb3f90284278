"""A bridge: one session of the live database that sees the rows of a restored copy beside its own.

Everything happens in one transaction, and every step is a statement that the database carries out on sets of rows: no
row is held in Python's memory. The statements are the same for each engine; what differs between them is here abstract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from erp_backup.core.errors import RefusedError


def quoted(name: str) -> str:
    """Return a name as SQL writes it, on every engine here."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Iterable[str], prefix: str = "") -> str:
    """Return quoted names with commas between, each after ``prefix.`` where one is given."""
    lead = f"{prefix}." if prefix else ""
    return ", ".join(f"{lead}{quoted(name)}" for name in names)


def matched(left: str, right: str, columns: Iterable[str], others: Iterable[str] | None = None) -> str:
    """Return the condition that the columns of one relation equal those of the other."""
    pairs = zip(columns, others if others is not None else columns, strict=True)
    return " AND ".join(f"{left}.{quoted(column)} = {right}.{quoted(other)}" for column, other in pairs)


def not_null(prefix: str, columns: Iterable[str]) -> str:
    """Return the condition that none of the columns is null."""
    return " AND ".join(f"{prefix}.{quoted(column)} IS NOT NULL" for column in columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column; ``type`` is text that is equal in two databases where the types are."""

    name: str
    type: str
    is_required: bool = False  # it takes no null and has no default
    is_generated: bool = False  # computed: it can be read, and not written


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """A unique index beside the primary key: its expressions, and the condition of the rows that it is about."""

    name: str
    expressions: tuple[str, ...]
    collations: tuple[str, ...] = ()  # of each expression, where they must be named
    predicate: str = ""
    has_equal_nulls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the live database or of the copy."""

    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()  # the columns of its primary key
    uniques: tuple[Unique, ...] = ()
    is_partitioned: bool = False
    has_rules: bool = False  # rewrite rules: an INSERT may do something else than it says

    @property
    def label(self) -> str:
        """The name as people read it."""
        return self.name if self.schema in {"", "main", "public"} else f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        """The name as SQL writes it."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns."""
        return tuple(column.name for column in self.columns)

    @property
    def writable(self) -> tuple[str, ...]:
        """The names of the columns that can be given values."""
        return tuple(column.name for column in self.columns if not column.is_generated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A foreign key of the live database, from the columns of one table (schema, name) to those of another."""

    name: str
    source: tuple[str, str]
    columns: tuple[str, ...]
    target: tuple[str, str]
    target_columns: tuple[str, ...]
    acts_on_delete: bool = False  # it does something at once when its target goes (CASCADE, SET NULL, RESTRICT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Only rows whose ``columns`` equal ``others`` of some row of ``relation``, a relation of the bridge's session."""

    columns: tuple[str, ...]
    relation: str
    others: tuple[str, ...]


class Bridge(ABC):
    """One transaction of one session of the live database. ``alias`` is its Django database alias."""

    alias: str

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._made = 0

    def new_name(self) -> str:
        """Return the name of a new temporary relation, without its schema."""
        self._made += 1
        return f"erp_backup_rows_{self._made}"

    # Statements

    @abstractmethod
    def execute(self, statement: str) -> int:
        """Run a statement and return how many rows it touched."""

    @abstractmethod
    def query(self, statement: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query as they arrive. To be read to its end, or closed, before the next statement."""

    def value(self, statement: str) -> Any:
        """Return the one value of a query."""
        return next(iter(list(self.query(statement))))[0]

    def count(self, relation: str, condition: str = "") -> int:
        """Return how many rows a relation has."""
        where = f" WHERE {condition}" if condition else ""
        return int(self.value(f"SELECT count(*) FROM {relation} AS c{where}"))  # noqa: S608 - quoted identifiers

    @abstractmethod
    def temporary(self, select: str, index: Sequence[str] = ()) -> str:
        """Make a temporary relation of the rows of a query, with an index on these columns; return its name in SQL."""

    @abstractmethod
    def index(self, relation: str, columns: Sequence[str]) -> None:
        """Index a temporary relation."""

    # What there is

    @abstractmethod
    def live_table(self, name: str, schema: str = "") -> Table | None:
        """Return a table of the live database, found as the ERP finds it where no schema is given; None for a view."""

    @abstractmethod
    def restored_table(self, table: Table) -> Table | None:
        """Return the table of the copy that has the name of a live one."""

    @abstractmethod
    def references(self) -> tuple[Reference, ...]:
        """Return all foreign keys of the live database."""

    # Rows of the copy

    @abstractmethod
    def stage(self, table: Table, columns: Sequence[str], match: Match | None = None) -> str:
        """Bring columns of a restored table's rows into the session; return the relation's name in SQL."""

    @abstractmethod
    def pick(self, table: Table, columns: Sequence[str], alias: str, select: str, params: Sequence[Any]) -> str:
        """Bring the rows of a query on the copy (through its Django alias) into the session, without doubles.

        The query's columns are ``columns`` of ``table``, in that order.
        """

    @abstractmethod
    def differs(self, column: Column, left: str, right: str) -> str:
        """Return the condition that two values of a column are not the same, to the last digit; nulls are equal."""

    # Writing

    @abstractmethod
    def begin_writing(self, tables: Sequence[Table]) -> None:
        """Keep triggers of these tables from firing, and foreign keys from being checked before the end."""

    @abstractmethod
    def insert(self, table: Table, columns: Sequence[str], select: str) -> int:
        """Insert the rows of a query with the values they have, identity columns included; return how many."""

    @abstractmethod
    def end_writing(self, tables: Sequence[Table]) -> None:
        """Check foreign keys, put triggers back as they were, and sequences behind the greatest value.

        Raises RefusedError where a foreign key would be broken.
        """

    # Export

    @abstractmethod
    def insert_statements(self, table: Table, columns: Sequence[str], relation: str) -> Iterator[str]:
        """Yield INSERT statements with the rows of a relation as literals, for the stock program."""

    @abstractmethod
    def csv_chunks(self, columns: Sequence[str], relation: str) -> Iterator[bytes]:
        """Yield the rows of a relation as CSV: no value is an empty field, empty text is ``""``."""


def require_equal_columns(live: Table, restored: Table) -> None:
    """Raise RefusedError unless the rows of one fit into the other, column by column."""
    now = {column.name: column for column in live.columns}
    then = {column.name: column for column in restored.columns}
    gone = [name for name, column in then.items() if name not in now and not column.is_generated]
    new = [name for name, column in now.items() if name not in then and column.is_required and not column.is_generated]
    other = [name for name in then if name in now and then[name].type != now[name].type]
    said = [
        f"{what}: {', '.join(sorted(names))}"
        for what, names in (
            ("no longer there", gone),
            ("new and without a default", new),
            ("of another type", other),
        )
        if names
    ]
    if said or live.key != restored.key:
        raise RefusedError(
            f"The table {live.label} is not what it was when the backup was taken"
            f" ({'; '.join(said) or 'its primary key is another'}).",
            remedy="Restore the backup with 'dbrestore --into' and --migrate, and take the rows from there.",
        )
