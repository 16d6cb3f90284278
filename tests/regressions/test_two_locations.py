"""A backup that was made for one location only was missed, and called withheld, when another one was verified."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.host import Host

TWO = """
STORAGES["second"] = {
    "BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": BASE_SECOND},
}
ERP_BACKUP["LOCATIONS"] = {"backups": {}, "second": {"ROLE": "offsite"}}
"""


@pytest.fixture
def two(tmp_path: Path) -> Host:
    """A demo with two locations, the first backup in both."""
    second = tmp_path / "second"
    host = Host(tmp_path / "host", extra_settings=f"BASE_SECOND = {str(second)!r}\n{TWO}")
    host.migrate()
    host.manage("dbbackup", "-q")
    return host


def test_newest_is_elsewhere_on_purpose__not_missed(two: Host) -> None:
    """The location asked about holds everything that was meant for it."""
    two.manage("dbbackup", "-q", "--location", "second")

    result = two.manage("verifybackup", "--location", "backups", "--level", "stored")

    assert "PASSED" in result.stdout


def test_newest_is_nowhere__still_missed(two: Host, tmp_path: Path) -> None:
    """What was taken out of every location is missed whichever is asked about."""
    made = two.manage("dbbackup", "--json", "--location", "second").json()["backups"][0]
    for path in (tmp_path / "second").glob(f"{made['id']}*"):
        path.unlink()

    result = two.manage("verifybackup", "--location", "backups", "--level", "stored", check=False)

    assert 5 == result.returncode
    assert made["id"] in result.stderr
