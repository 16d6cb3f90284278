"""The newest number and hash of each database, kept outside every database and location.

A location whose newest manifest is older than the head kept here was rolled back, or withholds something.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from erp_backup.core import filelock, files, jsondata
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
        entries = jsondata.parse(path.read_bytes())
        return {alias: jsondata.from_data(Head, entry) for alias, entry in entries.items()}
    except FileNotFoundError:
        return {}
    except CorruptError as error:
        raise CorruptError(
            f"{path} is damaged.",
            remedy="Look at the newest backup with 'listbackups', then remove the file: it is made again.",
        ) from error


def advance_head(state_dir: Path, alias: str, head: Head) -> None:
    """Record ``head``, durably, unless a newer one stands there already. Raises CorruptError, NoSpaceError.

    Backups of other databases may end at the same moment: each keeps its own head.
    """
    path = state_dir / "heads.json"
    with filelock.wait_for(state_dir / "locks" / "heads.lock"):
        heads = read_heads(state_dir)
        if heads.get(alias, Head()).number >= head.number:
            return
        with no_space_as_error(path):
            files.replace_whole(path, jsondata.canonical(jsondata.to_data({**heads, alias: head})))
