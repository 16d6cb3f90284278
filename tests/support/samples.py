"""Backups made up for tests: manifests of every field, signed and stored as real ones are."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from erp_backup.core import manifest as manifests
from erp_backup.core.figures import (
    Figures,
    Measurement,
    MeasurementKind,
    SchemaObject,
    SequenceFigure,
    TableFigure,
)
from erp_backup.core.manifest import ArchiveFacts, DatabaseFacts, Manifest
from erp_backup.core.names import manifest_name
from erp_backup.core.signing import Signer
from erp_backup.locations.base import Location
from erp_backup.services.environment import Environment

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


class FixedClock:
    """Stands where it is put, and moves only when it is told to."""

    def __init__(self, now: datetime = NOON) -> None:
        self.time = now
        self.slept: list[float] = []

    def now(self) -> datetime:
        """Return the moment it stands at."""
        return self.time

    def monotonic(self) -> float:
        """Return the same in seconds."""
        return self.time.timestamp()

    def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self.slept.append(seconds)
        self.time += timedelta(seconds=seconds)


def sample_figures() -> Figures:
    """Return figures of every kind."""
    return Figures(
        tables=(
            TableFigure(schema="public", name="erp_item", columns=("id", "name"), rows=3, fingerprint="-12345678901"),
            TableFigure(schema="public", name="erp_note", columns=("id",), rows=0, fingerprint="0"),
        ),
        sequences=(
            SequenceFigure(
                schema="public",
                name="erp_item_id_seq",
                last_value=3,
                is_called=True,
                table="public.erp_item",
                column="id",
                column_max=3,
            ),
        ),
        objects=(SchemaObject(kind="index", name="public.erp_item_pkey", digest="0123456789abcdef"),),
        extensions={"plpgsql": "1.0"},
        migrations=("erp.0001_initial", "erp.0002_more"),
        methods={"fingerprint": "xxh64 1", "definition": "sqlite 1"},
        large_objects=TableFigure(schema="", name="large objects", columns=("oid",), rows=1, fingerprint="7"),
    )


def sample_measurements() -> tuple[Measurement, ...]:
    """Return measurements of every kind."""
    return (
        Measurement(check="users.active", value="2", unit="users", milliseconds=3),
        Measurement(
            check="stock.balances",
            kind=MeasurementKind.MAPPING,
            value="30.50",
            count=2,
            digest="ab" * 32,
            rows={"1": "10.00", "2": "20.50"},
            labels={"1": "Bolt", "2": "Nut"},
        ),
        Measurement(check="ledger.balanced", kind=MeasurementKind.INVARIANT, value="0", count=0, digest="cd" * 32),
        Measurement(check="slow", error="It took longer than its limit.", timed_out=True),
    )


def sample_manifest(**changes: Any) -> Manifest:
    """Return a manifest with something in every field; `changes` replaces fields."""
    complete = Manifest(
        id="erp_full_20260105_120000_abc123",
        number=7,
        previous_sha256="ef" * 32,
        database=DatabaseFacts(
            alias="default",
            engine="sqlite",
            name="/srv/erp/böhm's.db",
            version="3.40.1",
            major=3,
            encoding="UTF-8",
            size=8192,
            settings=("work_mem=4MB",),
        ),
        kind="full",
        format="sqlite3",
        taken_at=NOON,
        finished_at=NOON + timedelta(seconds=2, microseconds=345),
        host="db1",
        release="2026.1",
        tools={"sqlite": "3.40.1"},
        archive=ArchiveFacts(
            name="erp_full_20260105_120000_abc123.sqlite3.zst",
            size=100,
            sha256="12" * 32,
            codecs=("zstd",),
            uncompressed_size=8192,
            uncompressed_sha256="34" * 32,
        ),
        recipients=("age1qqqq",),
        figures=sample_figures(),
        not_included=("table session (data)",),
        excluded_tables=("session",),
        schemas=(),
        measurements=sample_measurements(),
        durations={"dump": 1200, "total": 2000},
    )
    return replace(complete, **changes)


def named_manifest(name: str, *, number: int, taken_at: datetime, **changes: Any) -> tuple[Manifest, bytes]:
    """Return the manifest of a backup called `name`, and the bytes of an archive that fit it."""
    content = f"the archive of {name}".encode() * 10
    archive = ArchiveFacts(
        name=f"{name}.sqlite3.zst",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        codecs=("zstd",),
        uncompressed_size=8192,
        uncompressed_sha256="34" * 32,
    )
    made = sample_manifest(id=name, number=number, taken_at=taken_at, finished_at=taken_at, archive=archive)
    return replace(made, **changes), content


def store_backup(
    environment: Environment,
    name: str,
    *,
    number: int,
    taken_at: datetime = NOON,
    signer: Signer | None = None,
    locations: tuple[Location, ...] | None = None,
    **changes: Any,
) -> Manifest:
    """Store a backup as real ones are stored: archive first, signed manifest last, in each location."""
    manifest, content = named_manifest(name, number=number, taken_at=taken_at, **changes)
    raw = manifests.write(manifest, signer or environment.signer())
    for location in environment.locations if locations is None else locations:
        location.save(manifest.archive.name, [content])
        location.save(manifest_name(manifest.archive.name), [raw])
    return manifest
