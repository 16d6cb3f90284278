"""A restore in place that is not what its manifest says: told by its own exit code, with the way back."""

from __future__ import annotations

from erp_backup.management.restored import data_of, lines_of
from erp_backup.models import RestoreTarget
from erp_backup.services.restoring import inplace
from erp_backup.services.restoring.request import RestoreResult
from tests.support.samples import sample_manifest

RESULT = RestoreResult(
    name="restore-1",
    backup="erp_full_1",
    database="default",
    target=RestoreTarget.IN_PLACE,
    destination="erp",
    safety_backup="erp_safety_1",
    report={},
    problems=("The history could not be written.",),
    differences=("table public.item: 5 / 4",),
)


def test_differences__exit_6_and_the_safety_backup_is_named() -> None:
    """Whatever else was wrong."""
    text = "\n".join(lines_of(RESULT, width=200))

    assert 6 == RESULT.exit_code == data_of(RESULT)["exit_code"]
    assert "table public.item: 5 / 4" in text
    assert "dbrestore erp_safety_1 --in-place" in text


def test_statements__end_sessions_and_note_that_it_took_place() -> None:
    """Names are quoted, texts too; the restore's own row, by its name."""
    *_sessions, noted = inplace.statements(sample_manifest(), "default", "restore'1", "safety-1")

    assert noted == (
        'UPDATE "erp_backup_restore" SET "status" = \'complete\', "safety_backup" = \'safety-1\' '
        "WHERE \"name\" = 'restore''1'"
    )
