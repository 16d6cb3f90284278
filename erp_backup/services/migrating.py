"""The schema of a backup and that of the code: which is newer, app by app, and migrating a restored copy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from django.db import connections
from django.db.migrations.exceptions import BadMigrationError, CircularDependencyError, NodeNotFoundError
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from erp_backup.core.errors import VersionError
from erp_backup.engines.base import ProcessDatabase
from erp_backup.modelchecks import isolated
from erp_backup.services.environment import Environment

MIGRATE_LIMIT = 6 * 3600.0  # seconds; a migration of millions of rows takes its time, one that hangs has no end
Key = tuple[str, str]


class SchemaState(StrEnum):
    """How an app's schema in the backup stands to the code."""

    SAME = "same"
    OLDER = "older"  # the code has migrations that were not applied in it: migrate it
    NEWER = "newer"  # it has migrations that this code does not know: it cannot run on it
    APART = "apart"  # both
    REMOVED = "removed"  # the app is not installed any more (or has no migrations here): its tables stay, unused


@dataclass(frozen=True, slots=True, kw_only=True)
class AppMigrations:
    """One app: what the code would apply, what it does not know, and what it once knew (squashed, renamed)."""

    app: str
    state: SchemaState
    unapplied: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrations:
    """All apps. ``is_recorded`` is False where the database records no migrations at all: nothing can be told then."""

    apps: tuple[AppMigrations, ...] = ()
    is_recorded: bool = True

    @property
    def ahead(self) -> tuple[AppMigrations, ...]:
        """The apps in which the backup is newer than the code: refuse."""
        return tuple(app for app in self.apps if app.state in {SchemaState.NEWER, SchemaState.APART})

    @property
    def behind(self) -> tuple[AppMigrations, ...]:
        """The apps in which the backup is older than the code: migrate."""
        return tuple(app for app in self.apps if app.state in {SchemaState.OLDER, SchemaState.APART})

    @property
    def removed(self) -> tuple[AppMigrations, ...]:
        """The apps that this code does not have: worth a note."""
        return tuple(app for app in self.apps if app.state is SchemaState.REMOVED)


class WritableCopy(Protocol):
    """A restored copy, as far as migrating it goes."""

    def writable_process_settings(self) -> ProcessDatabase:
        """Return how another process writes it."""
        ...


def compare(applied: Iterable[str]) -> Migrations:
    """Compare applied migrations with the code: ``app.name`` in the order they were applied in, as manifests have them.

    Raises VersionError where squashed migrations make them impossible to compare.
    """
    names = list(applied)
    if not names:
        return Migrations(is_recorded=False)
    keys = [(app, name) for app, _, name in (text.partition(".") for text in names)]
    loader = _loaded(keys)
    missing, known = loader.unapplied(), loader.known()
    apps = sorted({app for app, _name in [*keys, *missing]})
    return Migrations(apps=tuple(_of_app(app, keys, missing, known) for app in apps))


def applied_in(alias: str) -> tuple[str, ...]:
    """Return the applied migrations of a database, in the order they were applied in; none without Django's table."""
    recorder = MigrationRecorder(connections[alias])
    if not recorder.has_table():
        return ()
    rows = recorder.migration_qs.order_by("pk").values_list("app", "name")
    return tuple(f"{app}.{name}" for app, name in rows)


def migrate(environment: Environment, scratch: WritableCopy, alias: str) -> str:
    """Run ``migrate`` on the copy, in a process whose database ``alias`` it is; return the end of what that said.

    Neither the live database nor any other is within that process's reach, nor are the network, mail and queues.
    Raises MigrationError.
    """
    return isolated.migrate(
        environment.runner,
        scratch.writable_process_settings(),
        alias=alias,
        now=environment.clock.now(),
        settings_module=environment.config.settings_module,
        limit=MIGRATE_LIMIT,
    )


class _Loader(MigrationLoader):
    """Django's own loader with the applied migrations of another time and place: no database is asked.

    Squashed migrations are replaced, or not, exactly as ``migrate`` would have it.
    """

    def __init__(self, applied: Iterable[Key]) -> None:
        self._given = dict.fromkeys(applied)
        super().__init__(None, ignore_no_migrations=True)

    @property
    def applied_migrations(self) -> dict[Key, Any]:
        """What was applied; the loader adds squashed migrations whose parts all were, and takes others away."""
        return self._given

    @applied_migrations.setter
    def applied_migrations(self, _nothing: object) -> None:
        """Django says that none are where it has no connection: it is told otherwise."""

    def unapplied(self) -> list[Key]:
        """Return what ``migrate`` would apply."""
        return sorted(key for key in self.graph.nodes if key not in self._given)

    def known(self) -> set[Key]:
        """Return every migration that the code has, or has squashed."""
        return {*self.disk_migrations, *(key for found in self.disk_migrations.values() for key in found.replaces)}


def _loaded(applied: Iterable[Key]) -> _Loader:
    try:
        return _Loader(applied)
    except (NodeNotFoundError, CircularDependencyError, BadMigrationError) as error:
        raise VersionError(
            f"The code's migrations do not fit those of the backup: {error}",
            remedy="Restore it with the code of its time (its release stands in the manifest).",
        ) from error


def _of_app(app: str, applied: list[Key], missing: list[Key], known: set[Key]) -> AppMigrations:
    names = [name for label, name in applied if label == app]
    unapplied = tuple(name for label, name in missing if label == app)
    if not any(label == app for label, _name in known):
        return AppMigrations(app=app, state=SchemaState.REMOVED, forgotten=tuple(names))
    # What was applied before something that the code still has, it once had too: the file was squashed away or renamed.
    last = max((number for number, name in enumerate(names) if (app, name) in known), default=-1)
    foreign = [(number, name) for number, name in enumerate(names) if (app, name) not in known]
    unknown = tuple(name for number, name in foreign if number > last)
    return AppMigrations(
        app=app,
        state=_state(is_older=bool(unapplied), is_newer=bool(unknown)),
        unapplied=unapplied,
        unknown=unknown,
        forgotten=tuple(name for number, name in foreign if number < last),
    )


def _state(*, is_older: bool, is_newer: bool) -> SchemaState:
    if is_older:
        return SchemaState.APART if is_newer else SchemaState.OLDER
    return SchemaState.NEWER if is_newer else SchemaState.SAME
