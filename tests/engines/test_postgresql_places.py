"""Databases on other servers as people name them."""

from __future__ import annotations

import pytest

from erp_backup.core.errors import BackupError, RefusedError, UsageError
from erp_backup.engines.base import Database
from erp_backup.engines.postgresql import PostgreSQL
from erp_backup.engines.postgresql.connecting import parameters
from erp_backup.engines.sqlite import ENGINE
from tests.support.pg_engine import engine_of

LIVE = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "erp",
    "USER": "erp_owner",
    "PASSWORD": "of-the-live-one",
    "HOST": "live.example",
    "PORT": "5432",
    "OPTIONS": {"sslmode": "require", "passfile": "/nowhere"},
}


@pytest.fixture
def engine() -> PostgreSQL:
    """The engine of a live database that is never asked."""
    return engine_of(LIVE)


def test_name__is_at_the_live_server(engine: PostgreSQL) -> None:
    """Whatever is in it but for a scheme."""
    place = engine.elsewhere("re stored?/x@y")

    assert engine is place.engine
    assert ("re stored?/x@y", "re stored?/x@y") == (place.name, place.shown)


def test_url__is_another_server_with_nothing_of_the_live_login(engine: PostgreSQL) -> None:
    """Percent-encoded characters are what they stand for; options of libpq are options."""
    url = "postgresql://o%40dd@h:6543/na%20me%3F%2F%22?sslmode=disable"
    place = engine.elsewhere(url)

    assert 'na me?/"' == place.name
    assert "postgresql://o%40dd@h:6543/na%20me%3F%2F%22" == place.shown
    assert place.engine.database.is_elsewhere
    values = parameters(place.engine.database.settings)
    assert ("o@dd", "h", "6543", 'na me?/"', "disable") == tuple(
        values[key] for key in ("user", "host", "port", "dbname", "sslmode")
    )
    assert not {"password", "passfile"} & values.keys()


def test_url_in_the_environment__may_hold_a_password(engine: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used, and not shown."""
    monkeypatch.setenv("OTHER", "postgres://me:hun%3Ater2@[::1]/name")
    place = engine.elsewhere("env:OTHER")

    assert "hun:ter2" == parameters(place.engine.database.settings)["password"]
    assert "postgresql://me@[::1]/name" == place.shown
    assert "hun" not in repr(place) + repr(place.engine.database)


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("postgresql://me:hunter2@h/name", RefusedError),
        ("postgresql://me@h/name?password=hunter2", RefusedError),
        ("postgresql://me@h/name?sslpassword=hunter2", RefusedError),
        ("postgresql://me:hunter2%zz@h/name", UsageError),
        ("mysql://me:hunter2@h/name", UsageError),
        ("postgresql://hunter2@h", UsageError),
        ("env:NOT_THERE", UsageError),
        ("postgresql://me@h/erp_backup_scratch_0123456789abcdef", RefusedError),
    ],
)
def test_what_cannot_be__refused_and_no_secret_repeated(
    engine: PostgreSQL, place: str, error: type[BackupError]
) -> None:
    """Nothing of a URL that holds a password is said again."""
    with pytest.raises(error) as raised:
        engine.elsewhere(place)

    assert "hunter2" not in str(raised.value)


def test_live_database_s_own_name__is_nothing_special_elsewhere() -> None:
    """The same name at another server is a new database there."""
    assert "erp" == engine_of(LIVE).elsewhere("postgresql://me@h/erp").name
    assert not Database(alias="default", settings=LIVE).is_elsewhere


def test_engine_without_a_server__takes_no_url() -> None:
    """SQLite has names and paths; what the URL was is not said again."""
    engine = ENGINE(Database(alias="default", settings={"NAME": "/nowhere/app.db"}), engine_of(LIVE).tools)
    with pytest.raises(UsageError) as raised:
        engine.elsewhere("postgresql://me:hunter2@h/name")

    assert "hunter2" not in str(raised.value)
    assert "copy.db" == engine.elsewhere("copy.db").name
