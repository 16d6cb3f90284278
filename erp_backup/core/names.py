"""Names of archives and manifests. Facts are read from manifests, never from names."""

from __future__ import annotations

import re
import secrets
import string
from datetime import UTC, datetime

from erp_backup.core.errors import UsageError

MANIFEST_SUFFIX = ".manifest.json"
_ALPHABET = string.ascii_lowercase + string.digits
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_UNSAFE_RUN = re.compile(r"[^A-Za-z0-9]+")


def slug(text: str) -> str:
    """Return ``text`` as the beginning of a file name: ASCII letters, digits, ``_``; ``database`` if none remain."""
    return _UNSAFE_RUN.sub("_", text).strip("_")[:60] or "database"


def new_identifier(prefix: str, kind: str, at: datetime) -> str:
    """Return a name that no other attempt has: ``{prefix}_{kind}_{YYYYMMDD_HHMMSS}_{6 random}``, in UTC."""
    random = "".join(secrets.choice(_ALPHABET) for _ in range(6))
    return f"{slug(prefix)}_{kind}_{at.astimezone(UTC):%Y%m%d_%H%M%S}_{random}"


def manifest_name(archive_name: str) -> str:
    """Return the name of the manifest that belongs to an archive."""
    return archive_name + MANIFEST_SUFFIX


def is_manifest(name: str) -> bool:
    """Whether ``name`` is a manifest's name that this package may have written."""
    return name.endswith(MANIFEST_SUFFIX) and is_safe(name)


def is_safe(name: str) -> bool:
    """Whether ``name`` is a plain file name: no folder, no control character, no leading dot, at most 200 characters.

    The suffix of a manifest comes on top: whatever an archive may be called, its manifest may be called too.
    """
    return _SAFE.fullmatch(name.removesuffix(MANIFEST_SUFFIX)) is not None


def require_safe(name: str) -> str:
    """Return ``name``. Raises UsageError unless it is a plain file name."""
    if not is_safe(name):
        raise UsageError(
            f"{name!r} cannot be the name of an archive.",
            remedy="Use letters, digits, '.', '_' and '-', beginning with a letter or digit.",
        )
    return name
