"""DATABASE_URL in all its forms."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from project.database_url import parse_database_url
from tests.support.host import Host
from tests.support.postgres import Cluster

BASE_DIR = Path("/srv/erp")


def address(url: str) -> tuple[str, ...]:
    """Return name, user, password, host and port."""
    entry = parse_database_url(url, base_dir=BASE_DIR)
    return tuple(entry[key] for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://user:pass@host:5432/erp", ("erp", "user", "pass", "host", "5432")),
        ("postgres://user@host/erp", ("erp", "user", "", "host", "")),
        ("postgresql://u%40x:p%2F%3A%25@h/sme%20erp%27s%3Fdb", ("sme erp's?db", "u@x", "p/:%", "h", "")),
        ("postgresql://u:p@[::1]:5433/erp", ("erp", "u", "p", "::1", "5433")),
        ("postgresql:///erp?host=/var/run/postgresql", ("erp", "", "", "/var/run/postgresql", "")),
        ("postgresql://u@%2Fvar%2FRun/erp", ("erp", "u", "", "/var/Run", "")),
        ("postgresql://?dbname=erp&user=u&password=p%26q&port=6432", ("erp", "u", "p&q", "", "6432")),
    ],
)
def test_postgresql_url__is_read_as_libpq_reads_it(url: str, expected: tuple[str, ...]) -> None:
    """User, password, host, port and name arrive decoded, wherever they stand."""
    assert expected == address(url)


def test_other_parameters__are_handed_to_libpq() -> None:
    """What is not an address is an option of the connection."""
    entry = parse_database_url("postgresql://h/erp?sslmode=require&application_name=erp", base_dir=BASE_DIR)

    assert {"sslmode": "require", "application_name": "erp"} == entry["OPTIONS"]
    assert entry["CONN_HEALTH_CHECKS"] is True


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///app.db", BASE_DIR / "app.db"),
        ("sqlite:////var/lib/my%20erp.db", Path("/var/lib/my erp.db")),
        ("sqlite:///:memory:", ":memory:"),
    ],
)
def test_sqlite_url__names_a_file(url: str, expected: Path | str) -> None:
    """Three slashes are relative to the project, four are absolute."""
    assert expected == parse_database_url(url, base_dir=BASE_DIR)["NAME"]


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:secret@host/erp",
        "postgresql://user:secret@host:port/erp",
        "postgresql://user:secret@host",
        "sqlite://secret/app.db",
        "sqlite:///",
        "secret",
    ],
)
def test_wrong_url__is_refused_without_repeating_it(url: str) -> None:
    """The message shows the right forms and keeps what may be a password to itself."""
    with pytest.raises(ImproperlyConfigured) as caught:
        parse_database_url(url, base_dir=BASE_DIR)

    assert "postgresql://user:password@host:port/name" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_password_with_every_odd_character__connects(postgres: Cluster, tmp_path: Path) -> None:
    """A real server accepts what the URL carries, for a database with an odd name as well."""
    password = "p%40/:?#[]@!$&'()*+,;= ü\\"
    postgres.create_role("odd owner", password)
    postgres.create_database("sme erp's?db", owner="odd owner")
    host = Host(tmp_path, postgres.url("sme erp's?db", "odd owner"))
    result = host.manage("migrate", "--verbosity=0", check=False)
    postgres.drop_database("sme erp's?db")
    postgres.drop_role("odd owner")

    assert (0, "") == (result.returncode, result.stderr)
