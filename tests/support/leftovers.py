"""What may not remain after a run, however it ended and once the next one is over."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.support.host import Host
from tests.support.postgres import Cluster

# Of the state folder: what is meant to stay, and the folders in which nothing may.
_KNOWN = {"locks", "heads.json", "signing.key"}
_EMPTY = ("jobs", "switches")
_COMPANIONS = ("", "-wal", "-journal", ".json")


def backups(host: Host) -> dict[str, str]:
    """Return the backups that a command finds, by id, with the name of their archive."""
    listed = host.manage("listbackups", "--json").json()["backups"]
    return {entry["id"]: entry["archive"]["name"] for entry in listed}


def unexplained_files(host: Host) -> set[str]:
    """Return the files that belong to no backup and no replaced database: in the location, and in the state folder."""
    archives = set(backups(host).values())
    wanted = archives | {f"{name}.manifest.json" for name in archives}
    in_location = set(os.listdir(host.backups_dir) if host.backups_dir.is_dir() else ()) - wanted
    return in_location | in_state(host.state_dir)


def in_state(folder: Path) -> set[str]:
    """Return what is in a state folder and should not be: also a maintenance mode that is on."""
    found = {path.name for path in folder.iterdir()} - {*_KNOWN, *_EMPTY, "replaced"}
    for name in _EMPTY:
        found |= set(_names(folder / name))
    return found | _unlisted(folder / "replaced")


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def _unlisted(folder: Path) -> set[str]:
    """Return what stands beside the replaced databases of SQLite: each whole one has a note, and that is all."""
    wanted = set()
    for note in folder.glob("*.sqlite3.json"):
        kept = Path(json.loads(note.read_text())["name"])
        if kept.exists() and kept.parent == folder:
            wanted |= {f"{kept.name}{suffix}" for suffix in _COMPANIONS}
    return set(_names(folder)) - wanted


def replaced(host: Host, cluster: Cluster | None = None, entry: dict[str, Any] | None = None) -> set[str]:
    """Return the names of all databases that stand aside, whether somebody knows why or not."""
    if cluster is not None and entry is not None:
        return {name for name in cluster.databases() if name.startswith(f"{entry['NAME']}__")}
    folder = host.state_dir / "replaced"
    return {str(folder / name) for name in _names(folder) if name.endswith(".sqlite3")}


def processes_of(host: Host) -> list[str]:
    """Return the command lines of the processes whose environment names this host's folders."""
    marks = (str(host.state_dir).encode(), str(host.folder / "home").encode())
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(mark in (process / "environ").read_bytes() for mark in marks):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def scratch_databases(cluster: Cluster) -> set[str]:
    """Return the databases of ours that should not be there any more."""
    return {name for name in cluster.databases() if name.startswith("erp_backup_")}


def assert_nothing_left(host: Host, cluster: Cluster | None = None) -> None:
    """Assert that no file, process or scratch database is left; replaced databases that are listed are wanted."""
    assert set() == unexplained_files(host)
    assert [] == processes_of(host)
    if cluster is not None:
        assert set() == scratch_databases(cluster)
