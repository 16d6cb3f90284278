"""The contests: PostgreSQL and SQLite, each with its data, its steps in order, and what is known about the data."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from benchmarks import data
from benchmarks.data import Volume
from benchmarks.peers import Bench, Step
from tests.support.host import Host
from tests.support.postgres import Cluster

BACKUP, READABLE, DRILL = "ours: dbbackup", "ours: verifybackup --level readable", "ours: verifybackup (drill)"
DUMP, DIRECTORY, PIPE = "pg_dump -Fc", "pg_dump -Fd -j2 -Z0", "pg_dump piped to gzip"
RESTORE = "createdb + pg_restore -j2"
ONLINE, COPY = "sqlite3 .backup + gzip", "cp"
DBBACKUP, DBBACKUP_Z = "django-dbbackup: dbbackup", "django-dbbackup: dbbackup -z"

_RESTORED = "bare_restore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Steps to be run in this order, round by round. ``server`` is PostgreSQL's first process."""

    title: str
    steps: list[Step]
    host: Host
    server: int | None = None

    def facts(self) -> Facts:
        """Return what the newest manifest says about the data."""
        manifest = _newest_manifest(self.host)
        tables = manifest["figures"]["tables"]
        return Facts(
            version=f"{manifest['database']['engine']} {manifest['database']['version']}",
            size=manifest["database"]["size"],
            dump=manifest["archive"]["uncompressed_size"],
            tables=len(tables),
            rows=sum(table["rows"] for table in tables),
            checks=len(manifest["measurements"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The data that was backed up; sizes in bytes, ``dump`` is what our archive holds before compression."""

    version: str = ""
    size: int = 0
    dump: int = 0
    tables: int = 0
    rows: int = 0
    checks: int = 0


@contextlib.contextmanager
def postgresql(folder: Path, volume: Volume) -> Iterator[Contest]:
    """Yield the contest on a cluster of its own."""
    with contextlib.closing(data.new_cluster()) as cluster:
        host = data.postgresql_host(cluster, folder / "ours")
        data.seed(host, volume, "postgresql")
        data.tidy(cluster)
        # The programs of the server's own version, for everyone.
        env = {"PATH": f"{cluster.bin_dir}:{host.environment['PATH']}", **data.client_environment(cluster)}
        bench = Bench(folder=folder, host=host, env=env)
        yield Contest(title="PostgreSQL", steps=_PostgreSQLSteps(bench, cluster).steps(), host=host, server=cluster.pid)


@dataclass(slots=True)
class _PostgreSQLSteps:
    bench: Bench
    cluster: Cluster
    archive: Path = field(init=False)

    def __post_init__(self) -> None:
        self.archive = self.bench.folder / "bare.dump"

    def steps(self) -> list[Step]:
        bench = self.bench
        return [
            bench.shell(DUMP, 'pg_dump --format=custom --file="$OUTPUT/dump"'),
            bench.shell(DIRECTORY, 'pg_dump --format=directory --jobs=2 --compress=0 --file="$OUTPUT/dump"'),
            bench.shell(PIPE, 'pg_dump | gzip > "$OUTPUT/dump.sql.gz"'),
            bench.dbbackup(DBBACKUP),
            bench.dbbackup(DBBACKUP_Z, "--compress"),
            bench.backup(BACKUP),
            bench.verify(READABLE, "--level", "readable"),
            self._bare_restore(),
            bench.verify(DRILL, finish=lambda: data.settle(self.cluster)),
        ]

    def _bare_restore(self) -> Step:
        archive = shlex.quote(str(self.archive))
        script = f"createdb {_RESTORED}; pg_restore --jobs=2 --dbname={_RESTORED} {archive}"
        return self.bench.shell(RESTORE, script, prepare=self._unpack, finish=self._drop)

    def _unpack(self) -> None:
        """Decompress our newest archive: the very bytes that the drill restores."""
        [packed] = self.bench.host.backups_dir.glob("*.dump.zst")
        with packed.open("rb") as source, self.archive.open("wb") as target:
            zstandard.ZstdDecompressor().copy_stream(source, target)

    def _drop(self) -> None:
        self.cluster.drop_database(_RESTORED)
        self.archive.unlink(missing_ok=True)
        data.settle(self.cluster)


@contextlib.contextmanager
def sqlite(folder: Path, volume: Volume) -> Iterator[Contest]:
    """Yield the contest on a database file of its own."""
    host = Host(folder / "ours")
    data.seed(host, volume, "sqlite")
    bench = Bench(folder=folder, host=host, env={})
    database = shlex.quote(str(host.database_file))
    steps = [
        bench.shell(ONLINE, f'sqlite3 {database} ".backup $OUTPUT/copy"; gzip "$OUTPUT/copy"'),
        bench.shell(COPY, f'cp {database} "$OUTPUT/copy"; sync "$OUTPUT/copy"'),
        bench.dbbackup(DBBACKUP_Z, "--compress"),
        bench.backup(BACKUP),
        bench.verify(READABLE, "--level", "readable"),
        bench.verify(DRILL),
    ]
    yield Contest(title="SQLite", steps=steps, host=host)


CONTESTS = {"postgresql": postgresql, "sqlite": sqlite}


def _newest_manifest(host: Host) -> dict[str, Any]:
    paths = sorted(host.backups_dir.glob("*.manifest.json"), key=lambda path: path.stat().st_mtime)
    manifest: dict[str, Any] = json.loads(paths[-1].read_bytes())
    return manifest
