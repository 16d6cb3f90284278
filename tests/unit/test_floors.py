"""Which client programs an archive that was not made here is given to."""

from __future__ import annotations

import pytest

from erp_backup.core.floors import FLOORS, floor_problem


@pytest.mark.parametrize("program", ["pg_restore", "psql"])
@pytest.mark.parametrize("version", ["14.25", "15.20", "16.16", "17.12", "18.7", "18.10", "19.0", "19beta1"])
def test_at_or_above_the_floor__no_problem(program: str, version: str) -> None:
    """The first good version of each major one, later ones, and major versions that came after the fault."""
    assert floor_problem(program, version) is None


@pytest.mark.parametrize(
    ("version", "cves", "needed"),
    [
        ("15.19", 1, "15.20"),
        ("15.13", 3, "15.20"),
        ("18.6", 1, "18.7"),
        ("17.5", 3, "17.12"),
        ("13.22", 1, ""),
        ("12.99", 3, ""),
        ("what", 3, ""),
        ("", 3, ""),
    ],
)
def test_below__named_with_what_to_install(version: str, cves: int, needed: str) -> None:
    """Every fault that is open in it is named; where its major version has no good one, all good ones are."""
    problem = floor_problem("pg_restore", version)

    assert problem is not None
    assert (cves, needed) == (len(problem.cves), needed if problem.needed == needed else problem.needed)
    assert f"pg_restore {version}" in problem.message
    assert (needed or "14.25, 15.20, 16.16, 17.12, 18.7") in problem.remedy


def test_other_programs__have_no_floor() -> None:
    """What is never given an archive needs none."""
    assert floor_problem("pg_dump", "9.6.0") is None


def test_floors__grow_with_the_versions_that_are_maintained() -> None:
    """Each fault says its CVE, and the newest one stands first: it is what people are told to install."""
    assert all(floor.cve.startswith("CVE-") for floor in FLOORS)
    assert max(max(floor.fixed) for floor in FLOORS) == max(FLOORS[0].fixed)
