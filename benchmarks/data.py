"""The data that is backed up: the demo ERP's own, made by its ``seed_demo``, on both engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.host import Host
from tests.support.postgres import Cluster

DATABASE = "erp"
_ROLE = "erp"
_ROWS_PER_TRANSACTION = 5  # ledger entries, orders and their lines included
# Bytes that a transaction takes with all that belongs to it, measured; indexes are part of it.
_BYTES = {"postgresql": 1060, "sqlite": 640}
_SIZES = {"small": 100_000_000, "medium": 1_000_000_000, "large": 4_000_000_000}
SIZES = tuple(_SIZES)
_LONGEST = 4 * 3600  # seconds for making the data
_CLUSTER = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "wal_level": "replica",
    # It would work now in this run, now in that one.
    "autovacuum": "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """How much data: a size in bytes of the database, or a number of rows."""

    size: str = "medium"
    rows: int | None = None

    def transactions(self, engine: str) -> int:
        """Return how many stock transactions make that much on an engine."""
        if self.rows is not None:
            return max(1, self.rows // _ROWS_PER_TRANSACTION)
        return _SIZES[self.size] // _BYTES[engine]

    def __str__(self) -> str:
        """Return it in words."""
        return self.size if self.rows is None else f"about {self.rows:,} rows"


def new_cluster() -> Cluster:
    """Start a durable cluster for the benchmark; the caller closes it."""
    cluster = Cluster(fsync=True, **_CLUSTER)
    try:
        cluster.create_role(_ROLE, "benchmark", createdb=True)
        cluster.create_database(DATABASE, owner=_ROLE)
    except BaseException:
        cluster.close()
        raise
    return cluster


def postgresql_host(cluster: Cluster, folder: Path) -> Host:
    """Return the demo on the cluster's database; its role is no superuser, and may create databases."""
    return Host(folder, cluster.url(DATABASE, _ROLE))


def client_environment(cluster: Cluster) -> dict[str, str]:
    """Return libpq's variables for the bare programs."""
    entry = cluster.entry(DATABASE, _ROLE)
    keys = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD", "PGDATABASE": "NAME"}
    return {variable: entry[key] for variable, key in keys.items()}


def settle(cluster: Cluster) -> None:
    """Let the server write what it holds, so that the next step does not pay for the one before."""
    with cluster.connect("postgres") as connection:
        connection.execute("CHECKPOINT")


def seed(host: Host, volume: Volume, engine: str) -> None:
    """Make the tables and fill them."""
    count = volume.transactions(engine)
    host.migrate()
    sizes = {"users": 50, "items": max(500, count // 50), "transactions": count}
    options = [f"--{name}={number}" for name, number in sizes.items()]
    host.manage("seed_demo", "--until=2026-11-01", *options, timeout=_LONGEST)


def tidy(cluster: Cluster) -> None:
    """Do what the server's own housekeeping would have done by the next night: measured runs must not pay for it."""
    with cluster.connect(DATABASE) as connection:
        connection.execute("VACUUM (ANALYZE)")
    settle(cluster)
