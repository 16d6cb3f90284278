"""`dbrestore --into URL`: a new database on another server; the live one has no part in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.commands.test_restore import Erp, made
from tests.support import leftovers
from tests.support.content import content_of, rows_of
from tests.support.postgres import Cluster

NAME = "od'd \"name? /%"


@pytest.fixture(scope="module")
def erp(tmp_path_factory: pytest.TempPathFactory, postgres: Cluster) -> Iterator[Erp]:
    """A demo on PostgreSQL with one backup."""
    with made(tmp_path_factory.mktemp("erp"), "postgresql", postgres) as made_erp:
        yield made_erp


@pytest.fixture(scope="module")
def other() -> Iterator[Cluster]:
    """Another server, with another owner; nothing of the live one's is there."""
    with Cluster() as cluster:
        cluster.create_role("keeper", "pass:word\\1")
        yield cluster


def test_url_in_the_environment__restored_and_compared_there(erp: Erp, other: Cluster) -> None:
    """Rows, model checks, history of it here; how to look holds no password; a second one finds the name taken."""
    assert isinstance(erp.database, dict)
    before, databases = erp.content, erp.cluster and erp.cluster.databases()
    env = {"OTHER_URL": other.url(NAME, "keeper")}
    done = erp.restore("--into", "env:OTHER_URL", "--json", env=env).json()

    assert (0, "passed") == (done["exit_code"], done["outcome"])
    assert rows_of(erp.state) == rows_of(content_of(other.entry(NAME, "keeper"), other))
    assert before == erp.content
    assert databases == (erp.cluster and erp.cluster.databases())
    assert set() == leftovers.scratch_databases(other)
    assert str(other.port) in done["how_to_look"]
    assert "word" not in str(done)
    assert f"{other.port}/od%27d%20%22name%3F%20%2F%25" in done["destination"]
    with other.connect() as admin:
        admin.execute("CREATE ROLE stranger LOGIN PASSWORD 'x'")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(host=other.host, port=other.port, dbname=NAME, user="stranger", password="x")

    again = erp.restore("--into", "env:OTHER_URL", "--dry-run", check=False, env=env)

    assert 9 == again.returncode
    assert "already at that server" in again.stdout
    erp.assert_nothing_left()


def test_role_without_rights__said_before_anything_is_done(erp: Erp, other: Cluster) -> None:
    """It is the other server that the preflight looks at."""
    with other.connect() as admin:
        admin.execute("CREATE ROLE poor LOGIN PASSWORD 'poor'")
    databases = other.databases()
    refused = erp.restore(
        "--into", f"postgresql://poor@{other.host}:{other.port}/x", check=False, env={"PGPASSWORD": "poor"}
    )

    assert 9 == refused.returncode
    assert "may not create databases" in refused.stderr
    assert databases == other.databases()


def test_password_on_the_command_line__refused_and_not_repeated(erp: Erp, tmp_path: Path) -> None:
    """Nor written into the history."""
    refused = erp.restore("--into", f"postgresql://me:hunter2@{tmp_path.name}/x", check=False)
    history = erp.run("from erp_backup.models import *; print([r.destination for r in Restore.objects.all()])")

    assert 9 == refused.returncode
    assert "Traceback" not in refused.stderr
    assert "hunter2" not in refused.stdout + refused.stderr + history
