"""Manifests of every format that was ever released stay readable for ever.

A file here is never changed or made anew: somebody's backups look like it. A new format adds a file.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from erp_backup.core import manifest as manifests
from erp_backup.core.errors import CorruptError
from erp_backup.core.figures import MeasurementKind
from erp_backup.core.signing import Verifier, parse_public

FOLDER = Path(__file__).parent
FORMATS = sorted(FOLDER.glob("manifest-format-*.json"))
# Written down by hand: the file that a release has made, byte for byte.
SHA256 = {"manifest-format-1.json": "027be69ccff9e7c375fe4f56313974ac8878436d578ee37e6d69be453162f945"}


def verifier_for(path: Path) -> Verifier:
    """Who trusts the key that the manifest was signed with."""
    return Verifier.trusting([parse_public(path.with_suffix(".public-key").read_text().strip())])


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.name)
class TestEveryFormat:
    """What holds for all of them."""

    def test_released__never_changed(self, path: Path) -> None:
        """The file is the one that was released."""
        assert SHA256[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_released__readable(self, path: Path) -> None:
        """This version reads it, its signature proven."""
        manifest = manifests.read(path.read_bytes(), verifier_for(path))

        assert manifest.id
        assert manifest.figures.tables

    def test_edited__found(self, path: Path) -> None:
        """It is not read without looking."""
        with pytest.raises(CorruptError):
            manifests.read(path.read_bytes().replace(b'"rows":3', b'"rows":4'), verifier_for(path))


class TestFormat1:
    """The first format: what each field says."""

    path = FOLDER / "manifest-format-1.json"

    def test_fields__mean_what_they_meant(self) -> None:
        """Nothing was renamed, moved or given another unit since."""
        found = manifests.read(self.path.read_bytes(), verifier_for(self.path))

        assert ("erp_full_20260105_120000_abc123", 7, "ef" * 32) == (found.id, found.number, found.previous_sha256)
        assert ("default", "sqlite", "/srv/erp/böhm's.db", 3, 8192) == (
            found.database.alias,
            found.database.engine,
            found.database.name,
            found.database.major,
            found.database.size,
        )
        assert ("full", "sqlite3") == (found.kind, found.format)
        assert datetime(2026, 1, 5, 12, tzinfo=UTC) == found.taken_at
        assert datetime(2026, 1, 5, 12, 0, 2, 345, tzinfo=UTC) == found.finished_at
        assert {"dump": 1200, "total": 2000} == found.durations
        assert (("session",), ("table session (data)",)) == (found.excluded_tables, found.not_included)

    def test_archive__means_what_it_meant(self) -> None:
        """The stored bytes and how they were encoded."""
        archive = manifests.read(self.path.read_bytes(), verifier_for(self.path)).archive

        assert ("erp_full_20260105_120000_abc123.sqlite3.zst", 100, "12" * 32) == (
            archive.name,
            archive.size,
            archive.sha256,
        )
        assert (("zstd",), 8192, "34" * 32) == (
            archive.codecs,
            archive.uncompressed_size,
            archive.uncompressed_sha256,
        )

    def test_figures__mean_what_they_meant(self) -> None:
        """Tables, sequences, definitions."""
        figures = manifests.read(self.path.read_bytes(), verifier_for(self.path)).figures
        item, sequence = figures.tables[0], figures.sequences[0]

        assert ("public.erp_item", ("id", "name"), 3, "-12345678901") == (
            item.label,
            item.columns,
            item.rows,
            item.fingerprint,
        )
        assert (3, True, 1, "id", 3) == (
            sequence.last_value,
            sequence.is_called,
            sequence.increment,
            sequence.column,
            sequence.column_max,
        )
        assert [("index", "public.erp_item_pkey")] == [(found.kind, found.name) for found in figures.objects]
        assert ("erp.0001_initial", "erp.0002_more") == figures.migrations

    def test_measurements__mean_what_they_meant(self) -> None:
        """A number, a mapping, an invariant, and one that was not measured."""
        users, stock, ledger, slow = manifests.read(self.path.read_bytes(), verifier_for(self.path)).measurements

        assert (MeasurementKind.NUMBER, "2", "users") == (users.kind, users.value, users.unit)
        assert (MeasurementKind.MAPPING, 2, {"1": "10.00", "2": "20.50"}) == (stock.kind, stock.count, stock.rows)
        assert (MeasurementKind.INVARIANT, "0") == (ledger.kind, ledger.value)
        assert slow.timed_out
        assert slow.error

    def test_signature__verifies_without_a_line_of_ours(self) -> None:
        """Sorted JSON without spaces and one line feed, signed with Ed25519: anybody can check it."""
        payload = json.loads(self.path.read_bytes())
        signature = payload.pop("signature")
        text = json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"
        public = base64.b64decode(self.path.with_suffix(".public-key").read_text())

        assert "ed25519" == signature["algorithm"]
        assert hashlib.sha256(public).hexdigest()[:16] == signature["key"]
        Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signature["value"]), text.encode())
