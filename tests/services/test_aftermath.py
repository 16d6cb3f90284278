"""What comes back to life with a restored state, with the demo's own users: ended where it must be, told where not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connections
from django.db.models import QuerySet
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from erp_backup.core.jsondata import to_data
from erp_backup.engines.orm import temporary_alias
from erp_backup.services import reviving
from erp_backup.services.aftermath import Ended, Revived, Table, end_sessions, queued, revived
from tests.support.postgres import Cluster, temporary_database
from tests.support.samples import NOON

User: Any = get_user_model()


def rows(model: Any, alias: str) -> QuerySet[Any]:
    """Return all rows of a model in one database."""
    return QuerySet(model, using=alias)


@dataclass(frozen=True, kw_only=True)
class States:
    """Two databases with the demo's users: the state that was replaced, and the one that is restored."""

    old: str
    new: str

    def user(self, name: str, *, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        """Add a user to both states, or to one of them, with the same number."""
        top = [rows(User, alias).order_by("-pk").values_list("pk", flat=True).first() or 0 for alias in self]
        for alias, values in zip(self, (old, new), strict=True):
            if values is not None:
                rows(User, alias).create(pk=max(top) + 1, **{"email": f"{name}@x", "password": "!", **values})

    def compare(self) -> Revived:
        """Compare both."""
        return revived(self.old, self.new)

    def run(self, alias: str, *statements: str) -> None:
        """Run SQL in one of them."""
        with connections[alias].cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def __iter__(self) -> Iterator[str]:
        """Yield both aliases."""
        return iter((self.old, self.new))


@pytest.fixture(scope="module")
def entries(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker
) -> Iterator[list[dict[str, Any]]]:
    """The settings of two databases with the tables of users and sessions, of the engine that the test names."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("aftermath")
        found = [
            {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / f"{name}.db")} for name in ("old", "new")
        ]
        _migrate(found[0], django_db_blocker)
        shutil.copy(found[0]["NAME"], found[1]["NAME"])
        yield found
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    with temporary_database(cluster, owner="erp_owner") as old, temporary_database(cluster, owner="erp_owner") as new:
        _migrate(old, django_db_blocker)
        cluster.drop_database(new["NAME"])
        with cluster.connect() as session:
            session.execute(f"CREATE DATABASE {new['NAME']} TEMPLATE {old['NAME']} OWNER erp_owner")
        yield [old, new]


def _migrate(entry: dict[str, Any], blocker: DjangoDbBlocker) -> None:
    with blocker.unblock(), temporary_alias(entry, purpose="test") as alias:
        for app in ("erp", "admin", "sessions"):
            call_command("migrate", app, database=alias, verbosity=0)


@pytest.fixture
def states(entries: list[dict[str, Any]], django_db_blocker: DjangoDbBlocker) -> Iterator[States]:
    """Both states, with nobody in them."""
    with (
        django_db_blocker.unblock(),
        temporary_alias(entries[0], purpose="test") as old,
        temporary_alias(entries[1], purpose="test") as new,
    ):
        for alias in (old, new):
            for model in (Session, User, Group):
                rows(model, alias).delete()
        yield States(old=old, new=new)


both = pytest.mark.parametrize("entries", ["sqlite", "postgresql"], indirect=True, scope="module")
sqlite = pytest.mark.parametrize("entries", ["sqlite"], indirect=True, scope="module")


@both
class TestRevived:
    """`revived`."""

    def test_equal_states__nothing(self, states: States) -> None:
        """Everybody is as they were."""
        active = {"is_active": True, "is_superuser": True, "password": "hash"}
        states.user("ann", old=active, new=active)
        found = states.compare()

        assert (True, 0, []) == (found.is_compared, found.total, found.notes)

    def test_users__those_who_are_back(self, states: States) -> None:
        """Deactivated or deleted after the backup; who is inactive in it stays so, who was made since is gone."""
        states.user("deactivated", old={"is_active": False}, new={"is_active": True})
        states.user("erased", old=None, new={"is_active": True})
        states.user("erased-inactive", old=None, new={"is_active": False})
        states.user("new", old={"is_active": True}, new=None)
        states.user("activated", old={"is_active": True}, new={"is_active": False})
        found = states.compare()

        assert (1, ["deactivated@x"]) == (found.reactivated.total, found.reactivated.first)
        assert (1, ["erased@x"]) == (found.returned.total, found.returned.first)
        assert 2 == found.total

    def test_rights__those_that_came_back(self, states: States) -> None:
        """Superusers and staff who were not any more, also those who did not exist any more."""
        states.user("boss", old={"is_superuser": False}, new={"is_superuser": True})
        states.user("staff", old={"is_staff": False}, new={"is_staff": True})
        states.user("erased", old=None, new={"is_staff": True, "is_superuser": True})
        states.user("same", old={"is_staff": True}, new={"is_staff": True})
        states.user("promoted", old={"is_staff": True}, new={"is_staff": False})
        found = states.compare()

        assert {"boss@x", "erased@x"} == set(found.superusers.first)
        assert {"staff@x", "erased@x"} == set(found.staff.first)

    def test_groups_and_permissions__by_name(self, states: States) -> None:
        """A group that has another number is the same group; what a group may do counts, too."""
        states.user("ann", old={}, new={})
        groups = {}
        for alias, names in ((states.old, ("b", "a")), (states.new, ("a", "b", "gone"))):
            groups[alias] = {name: rows(Group, alias).create(name=name) for name in names}
        permissions = {alias: list(rows(Permission, alias).order_by("codename")[:2]) for alias in states}
        for alias, given in ((states.old, ["a"]), (states.new, ["a", "b", "gone"])):
            ann = rows(User, alias).get()
            ann.groups.set([groups[alias][name] for name in given])
            ann.user_permissions.set(permissions[alias] if alias == states.new else permissions[alias][:1])
        groups[states.new]["a"].permissions.set(permissions[states.new][:1])
        found = states.compare()
        second = permissions[states.new][1]

        assert {"ann@x: b", "ann@x: gone"} == set(found.groups.first)
        assert [f"ann@x: {second.content_type.app_label}.{second.codename}"] == found.permissions.first
        assert (1, 1) == (found.permissions.total, found.group_permissions.total)
        assert found.group_permissions.first[0].startswith("a: ")

    def test_passwords__named_and_never_shown(self, states: States) -> None:
        """A former password works again; one that lets nobody in does not count."""
        hashes = [make_password("old"), make_password("new")]
        states.user("ann", old={"password": hashes[1]}, new={"password": hashes[0]})
        states.user("bob", old={"password": "!locked"}, new={"password": hashes[0]})
        states.user("cyd", old={"password": hashes[1]}, new={"password": "!locked"})
        found = states.compare()

        assert {"ann@x", "bob@x"} == set(found.passwords.first)
        assert not any(part in json.dumps(to_data(found)) + repr(found) for one in hashes for part in (one, one[-20:]))

    def test_many__counted_the_first_named_in_pieces(self, states: States, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the size of a piece, nobody is lost between two; a result is never longer than a page."""
        monkeypatch.setattr(reviving, "PIECE", 7)
        for alias, active in ((states.old, False), (states.new, True)):
            rows(User, alias).bulk_create(
                User(pk=10 * number, email=f"u{number:03}@x", is_active=active, password="!")
                for number in range(1, 131)
            )
        found = states.compare()

        assert (130, 100) == (found.reactivated.total, len(found.reactivated.first))
        assert [f"u{number:03}@x" for number in range(1, 101)] == found.reactivated.first

    def test_no_replaced_state__said(self, states: States) -> None:
        """The server was lost: nobody can tell."""
        found = revived(None, states.new)

        assert not found.is_compared
        assert ["There is no replaced state to compare users and rights with."] == found.notes

    def test_column_missing_in_one__the_rest_compared(self, states: States) -> None:
        """The replaced state may have another schema."""
        states.user("ann", old={"is_superuser": False}, new={"is_superuser": True})
        states.run(states.old, "ALTER TABLE users RENAME COLUMN is_staff TO was_staff")
        try:
            found = states.compare()
        finally:
            states.run(states.old, "ALTER TABLE users RENAME COLUMN was_staff TO is_staff")

        assert ["ann@x"] == found.superusers.first
        assert ["users.is_staff is not in both states and was not compared."] == found.notes

    @pytest.mark.parametrize(("which", "words"), [("old", "replaced"), ("new", "restored")])
    def test_no_users_in_one__said(self, states: States, which: str, words: str) -> None:
        """A damaged database, or one that the users are not in."""
        alias = getattr(states, which)
        states.run(alias, "ALTER TABLE users RENAME TO lost")
        try:
            found = states.compare()
        finally:
            states.run(alias, "ALTER TABLE lost RENAME TO users")

        assert (False, [f"The {words} state has no table users of users."]) == (found.is_compared, found.notes)


@both
class TestSessions:
    """`end_sessions`."""

    def test_sessions_in_the_database__ended(self, states: States) -> None:
        """In that database, and in no other."""
        for alias in states:
            for key in ("a", "b"):
                rows(Session, alias).create(session_key=key, session_data="x", expire_date=NOON + timedelta(days=9))
        ended = end_sessions(states.new)

        assert Ended(engine="django.contrib.sessions.backends.db", ended=2) == ended
        assert (2, 0) == (rows(Session, states.old).count(), rows(Session, states.new).count())
        assert 0 == end_sessions(states.new).ended

    def test_tokens__told(self, states: States) -> None:
        """They log in again; ending them would break what people have set up."""
        states.run(
            states.new,
            "CREATE TABLE authtoken_token (key varchar(40))",
            "INSERT INTO authtoken_token VALUES ('a'), ('b')",
            "CREATE TABLE knox_authtoken (digest varchar(40))",
        )
        try:
            ended = end_sessions(states.new)
        finally:
            states.run(states.new, "DROP TABLE authtoken_token", "DROP TABLE knox_authtoken")

        assert [("authtoken_token", 2)] == [(token.table, token.rows) for token in ended.tokens]

    def test_no_table__nothing_to_end(self, states: States) -> None:
        """The sessions may be in another database."""
        states.run(states.new, "ALTER TABLE django_session RENAME TO lost")
        try:
            assert 0 == end_sessions(states.new).ended
        finally:
            states.run(states.new, "ALTER TABLE lost RENAME TO django_session")


@sqlite
class TestOtherSessions:
    """Sessions that are not, or not only, in the database."""

    @pytest.mark.parametrize(
        ("engine", "words"),
        [
            ("django.contrib.sessions.backends.cached_db", "also in the cache"),
            ("django.contrib.sessions.backends.cache", "no restore touches: clear the cache"),
            ("django.contrib.sessions.backends.file", "SESSION_FILE_PATH"),
            ("django.contrib.sessions.backends.signed_cookies", "SECRET_KEY"),
            ("somewhere.redis_sessions", "kept by somewhere.redis_sessions"),
        ],
    )
    def test_kept_elsewhere__what_to_do(self, states: States, engine: str, words: str) -> None:
        """Rows of a kind that is not in use now are ended all the same."""
        rows(Session, states.new).create(session_key="a", session_data="x", expire_date=NOON)
        with override_settings(SESSION_ENGINE=engine):
            ended = end_sessions(states.new)

        assert (engine, 1) == (ended.engine, ended.ended)
        assert words in " ".join(ended.notes)
        assert 1 == len(ended.notes)


_QUEUES = {
    "django_tasks_database_dbtaskresult (status varchar(10))": ("('READY'), ('SUCCEEDED'), ('RUNNING')", 2),
    "django_q_ormq (id integer)": ("(1), (2), (3)", 3),
    "django_celery_beat_periodictask (enabled boolean)": ("(true), (false)", 1),
    "post_office_email (status smallint)": ("(0), (2), (3), (NULL)", 2),
    "mailer_message (id integer)": ("", 0),
    # Of a release that has no such column: all of it is told.
    "procrastinate_jobs (state varchar(9))": ("('todo'), ('done')", 2),
}


@both
class TestQueues:
    """`queued`."""

    def test_none__nothing(self, states: States) -> None:
        """The demo has no queue."""
        assert () == queued(states.new)

    def test_waiting_jobs__told(self, states: States) -> None:
        """Those that are done do not count, nor does an empty queue."""
        try:
            for table, (values, _rows) in _QUEUES.items():
                states.run(states.new, f"CREATE TABLE {table}")
                if values:
                    states.run(states.new, f"INSERT INTO {table.split()[0]} VALUES {values}")
            found = queued(states.new)
        finally:
            states.run(states.new, *(f"DROP TABLE IF EXISTS {table.split()[0]}" for table in _QUEUES))

        expected = {table.split()[0]: count for table, (_values, count) in _QUEUES.items() if count}
        assert expected == {table.table: table.rows for table in found}
        assert all(isinstance(table, Table) and table.meaning for table in found)
