"""What people read of a restore: it fits the terminal, names stay whole, and no name moves the cursor."""

from __future__ import annotations

import io
import json
import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import pytest
from django.core.management.base import BaseCommand, OutputWrapper

from erp_backup.core.errors import RefusedError
from erp_backup.core.figures import Severity
from erp_backup.core.jsondata import to_data
from erp_backup.engines.base import Engine, Place, Problem, Replaced
from erp_backup.management.confirming import require_confirmation
from erp_backup.management.restored import data_of, lines_of, lines_of_plan, lines_of_replaced
from erp_backup.models import RestoreTarget
from erp_backup.services.catalog import Found
from erp_backup.services.restoring.request import RestorePlan, RestoreRequest, RestoreResult
from erp_backup.services.verification import VerificationResult
from tests.support.samples import NOON, sample_manifest

LONG = "/srv/erp/state/replaced/" + "a_very_long_name_of_a_database_" * 3 + "__old_20260105T120000.sqlite3"
REPLACED = Replaced(name=LONG, live="app.db", restore="r1", replaced_at=NOON, size=4_100_000)


def result_of(target: RestoreTarget = RestoreTarget.SWITCH, **changes: Any) -> RestoreResult:
    """Return the result of a restore."""
    verified = VerificationResult(name="b1", level="models", reached="models", manifest=sample_manifest())
    given: dict[str, Any] = {"verification": verified, "report": {}, "milliseconds": 1400, **changes}
    return RestoreResult(name="r1", backup="b1", database="default", target=target, destination="erp", **given)


def said(result: RestoreResult, width: int = 80) -> str:
    """Return the report as it is printed."""
    return "\n".join(lines_of(result, width=width))


def plan_of(*problems: Problem, **request: Any) -> RestorePlan:
    """Return a plan with these problems."""
    manifest = sample_manifest()
    shown = request.get("into", "erp")
    place = Place(engine=cast("Engine", None), name=shown, shown=shown)
    return RestorePlan(
        place=place,
        destination=shown,
        request=RestoreRequest(database="default", **request),
        backup=Found(manifest=manifest, sha256="", copies=()),
        database_name="erp",
        has_live=True,
        age=timedelta(hours=2),
        steps=("back up the live database as it is now", "do something whose description is long " * 3),
        problems=problems,
        restore_seconds=12.5,
    )


class TestResult:
    """`lines_of`."""

    @pytest.mark.parametrize(
        ("target", "expected"),
        [
            (RestoreTarget.SWITCH, "b1 is live as erp, 1.4 s."),
            (RestoreTarget.INTO, "b1 is restored as erp, 1.4 s."),
            (RestoreTarget.TABLES, "erp has the rows of b1, 1.4 s."),
            (RestoreTarget.ROLLBACK, "erp is what it was before the switch, 1.4 s."),
        ],
    )
    def test_first_line__what_was_done(self, target: RestoreTarget, expected: str) -> None:
        """In one sentence."""
        assert expected == said(result_of(target)).splitlines()[0]

    def test_replaced__its_name_whole_and_the_way_back(self) -> None:
        """A name that is broken cannot be copied."""
        lines = said(result_of(replaced=REPLACED)).splitlines()

        assert f"  replaced   {LONG}" in lines or f"{' ' * 13}{LONG}" in lines
        assert "  take back  manage.py dbrestore --rollback" in lines

    def test_many_users__the_first_ten_and_how_many_more(self) -> None:
        """Within 80 columns, each address whole."""
        first = [f"somebody.{number}@example.com" for number in range(20)]
        text = said(result_of(report={"revived": {"reactivated": {"total": 12_345, "first": first}}}))

        assert all(len(line) <= 80 for line in text.splitlines())
        assert "  BACK       users that were deactivated: somebody.0@example.com," in text
        assert first[9] in text
        assert first[10] not in text
        assert "and 12,335 more" in text

    def test_odd_names__no_control_characters(self) -> None:
        """Neither of a user nor of a table or a database."""
        odd = "a\x1b[2Jb\nc"
        report = {
            "revived": {"superusers": {"total": 1, "first": [odd]}, "notes": [odd]},
            "queued": [{"table": odd, "rows": 3, "meaning": "jobs"}],
            "tables": {odd: {"inserted": 1, "changed": 2, "deleted": 3, "rows": 4}},
        }
        result = result_of(report=report, replaced=REPLACED, notes=(odd,), how_to_look=odd, safety_backup=odd)

        assert all(line.isprintable() for line in lines_of(result, width=80))

    def test_tables__what_became_of_their_rows(self) -> None:
        """And of the ERP's figures."""
        change = {"inserted": 1000, "changed": 2, "deleted": 0, "rows": 5000}
        text = said(result_of(report={"tables": {"users": change}, "model_checks": {"users.active": ["2", "5"]}}))

        assert "users: 1,000 inserted, 2 changed, 0 deleted; 5,000 rows now" in text
        assert "users.active: 2, now 5" in text

    def test_json__is_json(self) -> None:
        """With all that the lines say."""
        data = json.loads(json.dumps(to_data(data_of(result_of(replaced=REPLACED, problems=("x",))))))

        assert ("r1", "switch", "passed", 3, LONG) == (
            data["restore"],
            data["target"],
            data["outcome"],
            data["exit_code"],
            data["replaced"]["name"],
        )


class TestPlan:
    """`lines_of_plan`."""

    def test_narrow__fits(self) -> None:
        """Steps and problems are broken between words."""
        problem = Problem(message="Something is in the way of it. " * 4, remedy="Remove it.")
        lines = list(lines_of_plan(plan_of(problem), width=60))

        assert all(len(line) <= 60 for line in lines)
        assert "  1. back up the live database as it is now" in lines
        assert any(line.startswith("  IN THE WAY Something") for line in lines)
        assert lines[-1].endswith("Remove it.")

    def test_note__is_none_in_the_way(self) -> None:
        """What is only worth knowing looks like it."""
        text = "\n".join(lines_of_plan(plan_of(Problem(message="So.", severity=Severity.NOTE)), width=80))

        assert "  note       So." in text
        assert "IN THE WAY" not in text

    def test_destination__the_new_name_or_the_live_one(self) -> None:
        """What would be changed."""
        assert "  goes to    erp" in list(lines_of_plan(plan_of(), width=80))
        beside = plan_of(target=RestoreTarget.INTO, into="other")
        assert "  goes to    other" in list(lines_of_plan(beside, width=80))

    def test_replaced__names_whole(self) -> None:
        """They are typed again to release one."""
        assert lines_of_replaced([REPLACED], width=40)[-1].endswith(LONG)


class TestConfirming:
    """The name, and nothing but the name."""

    @staticmethod
    @contextmanager
    def typed(text: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Let somebody type at a terminal."""
        ours, theirs = pty.openpty()
        os.write(ours, text.encode())
        with os.fdopen(theirs) as terminal:
            monkeypatch.setattr("sys.stdin", terminal)
            yield
        os.close(ours)

    @staticmethod
    def command() -> tuple[BaseCommand, io.StringIO, io.StringIO]:
        """Return a command and where it writes."""
        out, err = io.StringIO(), io.StringIO()
        command = BaseCommand(stdout=OutputWrapper(out), stderr=OutputWrapper(err))
        return command, out, err

    def test_name__goes_on_and_standard_output_stays_clean(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The result may be one JSON document in a file."""
        command, out, err = self.command()
        with self.typed("app.db\n", monkeypatch):
            require_confirmation(command, "/srv/app.db", interactive=True)

        assert "" == out.getvalue()
        assert "type the name of the database, app.db: " in err.getvalue()

    @pytest.mark.parametrize("text", ["\n", "y\n", "APP.DB\n", " app.db\n", "/srv/app.db\n", "\x04"])
    def test_anything_else__no(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Enter, yes, nearly the name, the end of input."""
        command, _, _ = self.command()
        with self.typed(text, monkeypatch), pytest.raises(RefusedError, match="Not confirmed"):
            require_confirmation(command, "/srv/app.db", interactive=True)

    def test_no_terminal__refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever comes through the pipe."""
        monkeypatch.setattr("sys.stdin", io.StringIO("app.db\n"))

        with pytest.raises(RefusedError, match="--noinput"):
            require_confirmation(self.command()[0], "app.db", interactive=True)

    def test_not_interactive__asks_nobody(self) -> None:
        """It was meant."""
        command, out, err = self.command()
        require_confirmation(command, "app.db", interactive=False)

        assert "" == out.getvalue() + err.getvalue()
