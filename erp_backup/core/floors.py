"""Versions of PostgreSQL's client programs below which an archive that we did not sign is not given to them.

An archive is a program: it says what ``pg_restore`` and ``psql`` do. These versions fix faults through which one could
reach the machine that restores it, past what the database server allows. Pure data; a new fault is a new entry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_VERSION = re.compile(r"(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """One fault: the first good minor version of each major one. Later major versions never had it."""

    cve: str
    programs: frozenset[str]
    fixed: Mapping[int, int]


_BOTH = frozenset({"pg_restore", "psql"})
FLOORS: tuple[Floor, ...] = (
    Floor(cve="CVE-2026-116314", programs=_BOTH, fixed=MappingProxyType({14: 25, 15: 20, 16: 16, 17: 12, 18: 7})),
    Floor(cve="CVE-2025-8714", programs=_BOTH, fixed=MappingProxyType({13: 22, 14: 19, 15: 14, 16: 10, 17: 6})),
    Floor(cve="CVE-2025-8715", programs=_BOTH, fixed=MappingProxyType({13: 22, 14: 19, 15: 14, 16: 10, 17: 6})),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorProblem:
    """A client below the floor: ``cves`` are open in it, ``needed`` is the least version of its major that is not.

    ``needed`` is empty where no version of that major is good.
    """

    program: str
    version: str
    cves: tuple[str, ...]
    needed: str

    @property
    def message(self) -> str:
        """What is wrong, in one sentence."""
        return f"{self.program} {self.version} has known faults that an archive can use ({', '.join(self.cves)})."

    @property
    def remedy(self) -> str:
        """Which version to install."""
        least = self.needed or ", ".join(f"{major}.{minor}" for major, minor in sorted(FLOORS[0].fixed.items()))
        return f"Install {self.program} {least} or newer."


def floor_problem(program: str, version: str) -> FloorProblem | None:
    """Return what is open in ``version`` ("15.18") of ``program``, None where it is at or above every floor.

    A version that cannot be read is below: nobody knows what it is.
    """
    match = _VERSION.match(version)
    major, minor = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
    open_floors = [floor for floor in FLOORS if program in floor.programs and _is_below(floor, major, minor)]
    if not open_floors:
        return None
    known = [floor.fixed.get(major) for floor in open_floors]
    least = None if None in known else max(number for number in known if number is not None)
    return FloorProblem(
        program=program,
        version=version,
        cves=tuple(floor.cve for floor in open_floors),
        needed="" if least is None else f"{major}.{least}",
    )


def _is_below(floor: Floor, major: int, minor: int) -> bool:
    if major > max(floor.fixed):
        return False
    fixed = floor.fixed.get(major)
    return fixed is None or minor < fixed
