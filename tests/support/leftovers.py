"""What may not remain after a run, however it ended and once the next one is over."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.host import Host
from tests.support.postgres import Cluster


def backups(host: Host) -> dict[str, str]:
    """Return the backups that a command finds, by id, with the name of their archive."""
    listed = host.manage("listbackups", "--json").json()["backups"]
    return {entry["id"]: entry["archive"]["name"] for entry in listed}


def unexplained_files(host: Host) -> set[str]:
    """Return the files that belong to no backup: in the location, and in the state folder."""
    archives = set(backups(host).values())
    wanted = archives | {f"{name}.manifest.json" for name in archives}
    in_location = set(os.listdir(host.backups_dir) if host.backups_dir.is_dir() else ()) - wanted
    return in_location | _in_state(host.state_dir)


def _in_state(folder: Path) -> set[str]:
    jobs = folder / "jobs"
    found = {path.name for path in folder.iterdir()} - {"jobs", "locks", "heads.json", "signing.key"}
    return found | ({path.name for path in jobs.iterdir()} if jobs.is_dir() else set())


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
    """Assert that no file, process or scratch database is left."""
    assert set() == unexplained_files(host)
    assert [] == processes_of(host)
    if cluster is not None:
        assert set() == scratch_databases(cluster)
