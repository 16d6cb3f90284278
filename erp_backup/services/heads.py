"""The newest number and hash of each database, kept outside every database and location.

A location whose newest manifest is older than the head kept here was rolled back, or withholds something.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from erp_backup.core.errors import CorruptError
from erp_backup.core.spaces import no_space_as_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest manifest of one database: its number, its SHA-256 and its name."""

    number: int = 0
    sha256: str = ""
    name: str = ""


def read_heads(state_dir: Path) -> dict[str, Head]:
    """Return the heads by database alias. Raises CorruptError for a file that cannot be read as such."""
    path = state_dir / "heads.json"
    try:
        return {alias: Head(**entry) for alias, entry in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptError(
            f"{path} is damaged.",
            remedy="Look at the newest backup with 'listbackups', then remove the file: it is made again.",
        ) from error


def advance_head(state_dir: Path, alias: str, head: Head) -> None:
    """Record ``head``, durably, unless a newer one stands there already."""
    heads = read_heads(state_dir)
    if heads.get(alias, Head()).number >= head.number:
        return
    heads[alias] = head
    path, temporary = state_dir / "heads.json", state_dir / "heads.json.new"
    with no_space_as_error(path), temporary.open("w") as file:
        os.fchmod(file.fileno(), 0o600)
        json.dump({name: asdict(entry) for name, entry in heads.items()}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
