"""What a restore would do, what is in its way, and what is left of restores that died."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from erp_backup.core.errors import (
    KeyUnavailableError,
    NoBackupError,
    NoSpaceError,
    RefusedError,
    UsageError,
    VersionError,
)
from erp_backup.core.figures import Severity
from erp_backup.core.manifest import Origin
from erp_backup.engines.base import Problem
from erp_backup.management.restored import plan_data
from erp_backup.models import Restore, RestoreStatus, RestoreTarget
from erp_backup.services.environment import Environment
from erp_backup.services.history import History
from erp_backup.services.restoring.planning import plan_restore, schema_problems
from erp_backup.services.restoring.recovering import recover
from erp_backup.services.restoring.request import RestorePlan, RestoreRequest
from erp_backup.services.restoring.rollback import find_replaced
from tests.support.samples import NOON, sample_figures, sample_manifest, store_backup
from tests.support.sqlite import create, engine_of

BARE = replace(sample_figures(), migrations=())  # of no Django: nothing can be said of its schema
ORIGIN = Origin(name="old.sql", size=1, sha256="12" * 32)


@pytest.fixture
def unblocked(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Engines may open connections of their own, which the mark forbids; the history is not asked."""
    with django_db_blocker.unblock():
        yield


def request_of(**request: Any) -> RestoreRequest:
    """Return a request for the default database."""
    return RestoreRequest(**{"database": "default", **request})


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A live database."""
    return create(tmp_path / "app.db", "CREATE TABLE erp_item (id integer PRIMARY KEY)")


def planned(environment: Environment, live: Path, request: dict[str, Any], **changes: Any) -> RestorePlan:
    """Return the plan for a backup that differs from a good one by `changes`."""
    manifest = {"figures": BARE, "excluded_tables": (), "measurements": (), **changes}
    store_backup(environment, "b1", number=1, **manifest)
    return plan_restore(
        environment, engine_of(live, state_dir=environment.config.state_dir), request_of(backup="b1", **request)
    )


def found(plan: RestorePlan, text: str) -> Problem:
    """Return the only problem that says so."""
    [problem] = [problem for problem in plan.problems if text in problem.message]
    return problem


@pytest.mark.usefixtures("unblocked")
class TestPlans:
    """`plan_restore`."""

    def test_good__possible_and_its_steps_in_order(self, environment: Environment, live: Path) -> None:
        """For machines the same."""
        plan = planned(environment, live, {})
        data = plan_data(plan)

        assert plan.is_possible, plan.problems
        assert plan.has_live
        assert [step.split()[0] for step in plan.steps] == [
            *("back", "restore", "carry", "maintenance", "switch,", "check"),
        ]
        assert ("b1", "switch", True, NOON) == (
            data["backup"],
            data["target"],
            data["is_possible"],
            data["taken_at"],
        )

    @pytest.mark.parametrize(
        ("request_", "expected", "unexpected"),
        [
            ({"safety_backup": False}, "NO safety backup is taken", "back up the live"),
            ({"maintenance": False}, "check through a fresh connection", "maintenance"),
            ({"migrate": True}, "migrate the restored database", "nothing"),
            ({"target": RestoreTarget.INTO, "into": "other"}, "leave it as other", "back up the live"),
            ({"target": RestoreTarget.TABLES, "tables": ("erp_item",)}, "the rows of erp_item", "switch"),
        ],
    )
    def test_steps__say_what_was_asked_for(
        self, environment: Environment, live: Path, request_: dict[str, Any], expected: str, unexpected: str
    ) -> None:
        """And nothing else."""
        steps = " / ".join(planned(environment, live, request_).steps)

        assert expected in steps
        assert unexpected not in steps

    def test_no_live_database__put_in_its_place(self, environment: Environment, tmp_path: Path) -> None:
        """There is nothing to back up, and nothing to keep."""
        plan = planned(environment, tmp_path / "gone.db", {})

        assert not plan.has_live
        assert not any("back up" in step for step in plan.steps)
        assert "put it in its place" in plan.steps

    @pytest.mark.parametrize(
        "request_",
        [
            {"before": NOON},
            {"path": Path("x")},
            {"target": RestoreTarget.INTO},
            {"target": RestoreTarget.TABLES},
            {"target": RestoreTarget.TABLES, "tables": ("a",), "migrate": True},
        ],
        ids=str,
    )
    def test_two_things_at_once__usage(self, environment: Environment, live: Path, request_: dict[str, Any]) -> None:
        """Before anything is looked at."""
        with pytest.raises(UsageError):
            planned(environment, live, request_)


@pytest.mark.usefixtures("unblocked")
class TestProblems:
    """Each is found before anything is touched."""

    @pytest.mark.parametrize(
        ("changes", "text", "error"),
        [
            ({"kind": "data"}, "holds data only", RefusedError),
            ({"database": replace(sample_manifest().database, engine="postgresql")}, "is sqlite", RefusedError),
        ],
        ids=["part", "engine"],
    )
    def test_manifest__in_the_way(
        self, environment: Environment, live: Path, changes: dict[str, Any], text: str, error: type
    ) -> None:
        """What it says of itself."""
        plan = planned(environment, live, {}, **changes)

        assert error is found(plan, text).error
        with pytest.raises(error):
            plan.require_possible()

    def test_encrypted__key(self, environment: Environment, live: Path) -> None:
        """There is no identity here."""
        archive = replace(sample_manifest().archive, codecs=("zstd", "age"))
        plan = planned(environment, live, {}, archive=archive)

        assert KeyUnavailableError in {problem.error for problem in plan.problems}

    def test_too_large__space(self, environment: Environment, live: Path) -> None:
        """More than any disk."""
        archive = replace(sample_manifest().archive, uncompressed_size=10**18)
        plan = planned(environment, live, {}, archive=archive)

        assert NoSpaceError in {problem.error for problem in plan.problems}

    @pytest.mark.parametrize("asked", [{"tables": ("nosuch", "erp_item")}, {"schemas": ("nosuch",)}], ids=str)
    def test_unknown_table_or_schema__usage(self, environment: Environment, live: Path, asked: dict[str, Any]) -> None:
        """Said before a safety backup is made."""
        plan = planned(environment, live, {"target": RestoreTarget.TABLES, **asked})

        assert UsageError is found(plan, "nosuch").error
        assert "erp_item" not in found(plan, "nosuch").message

    def test_excluded_tables_and_lost_model_checks__notes(self, environment: Environment, live: Path) -> None:
        """They are worth knowing, and stop nothing."""
        sample = sample_manifest()
        more = {"excluded_tables": sample.excluded_tables, "measurements": sample.measurements}
        plan = planned(environment, live, {}, **more)

        assert Severity.NOTE == found(plan, "the rows of session").severity
        assert Severity.NOTE == found(plan, "no longer has the model checks").severity
        assert plan.is_possible

    def test_imported__note_and_no_comparison_promised(self, environment: Environment, live: Path) -> None:
        """SQL of PostgreSQL's may not become the live database at all."""
        empty = replace(BARE, tables=(), sequences=(), objects=())
        plan = planned(environment, live, {}, origin=ORIGIN, figures=empty)

        assert Severity.NOTE == found(plan, "nobody measured its source").severity
        assert "restore beside the live database and ask its model checks" in plan.steps

    def test_several__the_first_and_how_many_more(self, environment: Environment, live: Path) -> None:
        """One error, which says where all of them are."""
        archive = replace(sample_manifest().archive, codecs=("zstd", "age"), uncompressed_size=10**18)
        plan = planned(environment, live, {}, archive=archive, kind="schema")

        with pytest.raises(RefusedError, match=r"3 more in the way: see dbrestore --dry-run"):
            plan.require_possible()


class TestSchemas:
    """Migrations of the backup and of the code."""

    def problems(self, *migrations: str, **request: Any) -> list[tuple[str, type]]:
        """Return severity and error of what is found."""
        return [(str(p.severity), p.error) for p in schema_problems(request_of(**request), migrations)]

    def test_older__refused_unless_migrated(self) -> None:
        """Beside the live database it is only noted."""
        older = ("contenttypes.0001_initial",)

        assert [("failed", RefusedError)] == self.problems(*older)
        assert [] == self.problems(*older, migrate=True)
        assert [("note", RefusedError)] == self.problems(*older, target=RestoreTarget.INTO, into="x")

    def test_newer__refused_but_into(self) -> None:
        """The code does not know what it would meet."""
        newer = ("contenttypes.0001_initial", "contenttypes.0002_remove_content_type_name", "contenttypes.9999_new")

        assert ("failed", VersionError) in self.problems(*newer, migrate=True)
        assert VersionError not in {error for _, error in self.problems(*newer, target=RestoreTarget.INTO, into="x")}

    def test_no_migrations_recorded__nothing_is_said(self) -> None:
        """It may be no Django's."""
        assert [] == self.problems()


@pytest.mark.django_db
class TestAfterwards:
    """Of restores that died, and of switches to take back."""

    def test_dead__marked_as_failed(self, environment: Environment, live: Path) -> None:
        """Only those of this database that had not ended."""
        history = History("tester")
        for name, alias in (("r1", "default"), ("r2", "other"), ("r3", "default")):
            history.begin_restore(name, "b1", alias, RestoreTarget.SWITCH, "app.db", NOON, "host")
        history.finish_restore("r3", NOON, RestoreStatus.COMPLETE)

        assert "" == recover(environment, engine_of(live, state_dir=environment.config.state_dir), history, "default")
        states = dict(Restore.objects.values_list("name", "status"))
        assert {"r1": "failed", "r2": "running", "r3": "complete"} == states
        assert "Its process ended before it was done." in Restore.objects.get(name="r1").error

    @pytest.mark.parametrize(("name", "text"), [("", "to take back"), ("nosuch", "'nosuch'")])
    def test_nothing_replaced__said(self, environment: Environment, live: Path, name: str, text: str) -> None:
        """There is nothing to take back or to let go."""
        with pytest.raises(NoBackupError, match=text):
            find_replaced(engine_of(live, state_dir=environment.config.state_dir), name)
