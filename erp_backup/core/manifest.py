"""The manifest, format 1: the signed record that makes an archive a backup.

It is written last and read first. The signature (Ed25519, RFC 8032) covers the canonical JSON of everything but itself,
fields that this version does not know included, so that manifests of later minor versions stay verifiable.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from erp_backup.core import jsondata
from erp_backup.core.errors import CorruptError, VersionError
from erp_backup.core.figures import Figures, Measurement
from erp_backup.core.signing import Signer, Verifier

FORMAT = 1
MAX_SIZE = 256 * 1024 * 1024  # bytes; a manifest of ten thousand tables is far below


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """The database a snapshot was taken of, and what a copy must be created with.

    ``settings`` are the database's own ``ALTER DATABASE ... SET`` (``name=value``). ``version`` is the server's (or
    the library's).
    """

    alias: str
    engine: str
    name: str
    version: str = ""
    major: int = 0
    encoding: str = ""
    collation: str = ""
    ctype: str = ""
    locale_provider: str = ""
    locale: str = ""
    collation_version: str = ""
    size: int = 0  # bytes the server uses for it
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFacts:
    """The stored bytes. ``codecs`` are applied from left to right; ``size`` and ``sha256`` are of the stored bytes."""

    name: str
    size: int
    sha256: str
    codecs: tuple[str, ...] = ()
    uncompressed_size: int = 0
    uncompressed_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an archive comes from that was not made here: what it was called, and its bytes as they were brought.

    ``codecs`` are what was undone when it was imported, in the order they had been applied.
    """

    name: str
    size: int
    sha256: str
    codecs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One backup. Durations are in milliseconds, sizes in bytes, times aware UTC."""

    id: str
    number: int
    previous_sha256: str = ""
    database: DatabaseFacts
    kind: str
    format: str
    taken_at: datetime
    finished_at: datetime
    host: str = ""
    release: str = ""
    tools: dict[str, str] = field(default_factory=dict)
    archive: ArchiveFacts
    recipients: tuple[str, ...] = ()
    figures: Figures = field(default_factory=Figures)
    not_included: tuple[str, ...] = ()  # what is deliberately not in the archive: "table public.x (data)", ...
    excluded_tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    durations: dict[str, int] = field(default_factory=dict)
    purpose: str = ""  # "safety": made before a restore, of a state that somebody wanted to be rid of
    origin: Origin | None = None  # of an imported archive: there are no figures of its source

    @property
    def is_foreign(self) -> bool:
        """Whether somebody else made the archive: our signature is for its bytes since then, not for its content."""
        return self.origin is not None

    @property
    def has_data(self) -> bool:
        """Whether the archive holds rows."""
        return self.kind != "schema"

    @property
    def has_schema(self) -> bool:
        """Whether the archive can build the schema it holds rows for."""
        return self.kind != "data"

    @property
    def has_model_checks(self) -> bool:
        """Whether the archive holds all that model checks look at."""
        return self.has_data and self.has_schema and not self.schemas


def write(manifest: Manifest, signer: Signer) -> bytes:
    """Return the signed canonical bytes of ``manifest``."""
    payload = _payload(manifest)
    payload["signature"] = signer.sign(jsondata.canonical(payload))
    return jsondata.canonical(payload)


def _payload(manifest: Manifest) -> dict[str, Any]:
    """The JSON object: ``format`` is the number of this file format, the dump's own format is ``dump_format``."""
    payload: dict[str, Any] = jsondata.to_data(manifest)
    payload["dump_format"] = payload.pop("format")
    payload["format"] = FORMAT
    return payload


def read(raw: bytes, verifier: Verifier) -> Manifest:
    """Return the manifest in ``raw``, its signature proven first.

    A manifest has one form: any other spelling of the same content is not what was written. Raises CorruptError for
    bytes that are damaged or edited, KeyUnavailableError for a signature by a key that is not trusted here,
    VersionError for a format of a later version.
    """
    if len(raw) > MAX_SIZE:
        raise CorruptError(f"A manifest of {len(raw):,} bytes is none of ours.")
    payload = jsondata.parse(raw)
    try:
        if jsondata.canonical(payload) != raw:
            raise CorruptError("It is not written as it was signed: it was edited or damaged.")
        signature = payload.pop("signature", None)
        signed = jsondata.canonical(payload)
    except (TypeError, ValueError, RecursionError) as error:
        raise CorruptError(f"It holds something that was never signed: {error}.") from error
    verifier.verify(signed, signature)
    return _from_payload(payload)


def _from_payload(payload: dict[str, Any]) -> Manifest:
    version = payload.pop("format", None)
    if version != FORMAT:
        raise VersionError(
            f"The manifest has format {version!r}, this version reads format {FORMAT}.",
            remedy="Upgrade erp-backup.",
        )
    payload["format"] = payload.pop("dump_format", None)
    return jsondata.from_data(Manifest, payload)


def digest(raw: bytes) -> str:
    """Return the SHA-256 of a manifest's bytes, which the next manifest of the database carries."""
    return hashlib.sha256(raw).hexdigest()
