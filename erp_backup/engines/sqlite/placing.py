"""A finished image as a new file under the live name, where there is none or one that is no database any more.

What stood there goes to the kept files as it is, with its ``-wal`` and ``-journal``. These leave the live name *before*
the image comes: SQLite would play them into it. A run that dies in between is undone by putting them back.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from erp_backup.core import files
from erp_backup.core.errors import LockedError, RefusedError
from erp_backup.core.spaces import no_space_as_error
from erp_backup.engines.sqlite.images import sync_file
from erp_backup.engines.sqlite.live import Condition, beside, companions_of, condition_of
from erp_backup.engines.sqlite.openers import locked_out, require_nobody
from erp_backup.engines.sqlite.replaced import KeptFiles, companions


def unfinished(live: Path) -> Path:
    """Return where the image is made ready beside the live name."""
    return live.with_name(f".{live.name}.erp_backup_new")


def place(image: Path, live: Path, kept: Path | None, keeping: KeptFiles) -> None:
    """Let the prepared ``image`` appear as ``live``, durably; what stood there is ``kept``.

    Raises LockedError while a process has the file open, RefusedError where its owner cannot be kept, NoSpaceError.
    """
    is_new = not live.exists()
    with ExitStack() as stack:
        if not is_new:
            stack.enter_context(locked_out(live))
        _require_nobody_else(live)
        with no_space_as_error(live.parent):
            ready = _copy_beside(image, live)
        _require_nobody_else(live)  # that took a while
        if kept is not None:
            _put_aside(live, kept, keeping)
        for companion in companions_of(live):
            companion.unlink()
        files.sync_folder(live.parent)
        _give_name(ready, live, is_new=is_new)


def _give_name(ready: Path, live: Path, *, is_new: bool) -> None:
    if not is_new:
        ready.replace(live)
        files.sync_folder(live.parent)
        return
    try:
        files.give_name(ready, live)
    except FileExistsError as error:
        raise LockedError(
            f"Another process has just created {live}.",
            remedy="Stop the programs that use this database, then run this again.",
        ) from error


def put_back(live: Path, kept: Path | None, keeping: KeptFiles, limit: float) -> bool:
    """Undo what a dead run did before the image had its name; return whether ``kept`` holds nothing of worth then.

    Its companions return to the file. Not where something else has taken that place since: SQLite would play them into
    it.
    """
    tidy(live)
    if kept is None:
        return True
    aside = {suffix: path for suffix, path in companions(kept).items() if path.exists()}
    is_the_old = condition_of(live, limit) is not Condition.DATABASE if kept.exists() else not live.exists()
    if aside and not is_the_old:
        return False
    for suffix, path in aside.items():
        keeping.put_aside(path, live.with_name(live.name + suffix))
    return True


def tidy(live: Path) -> None:
    """Remove the image that was made ready beside the live name, durably."""
    unfinished(live).unlink(missing_ok=True)
    if live.parent.is_dir():
        files.sync_folder(live.parent)


def _require_nobody_else(live: Path) -> None:
    """The descriptor that holds our own lock is the only one allowed."""
    require_nobody([live, *beside(live)], live, own_descriptors=1 if live.exists() else 0)


def _copy_beside(image: Path, live: Path) -> Path:
    """Copy the image beside the live name, with the owner and mode of what stands there."""
    ready = unfinished(live)
    ready.unlink(missing_ok=True)
    os.close(os.open(ready, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    shutil.copyfile(image, ready)
    _own(ready, live)
    sync_file(ready)
    return ready


def _own(ready: Path, live: Path) -> None:
    """Where nothing stands, the file is private, and belongs to the folder's owner if we may give it away."""
    is_new = not live.exists()
    wanted = (live.parent if is_new else live).stat()
    if not is_new:
        shutil.copystat(live, ready)
    if (wanted.st_uid, wanted.st_gid) == (ready.stat().st_uid, ready.stat().st_gid):
        return
    try:
        os.chown(ready, wanted.st_uid, wanted.st_gid)
    except PermissionError as error:
        if is_new:
            return
        raise RefusedError(
            f"{live} belongs to user {wanted.st_uid} and group {wanted.st_gid}, its replacement could not.",
            remedy="Run this as that user, or as root.",
        ) from error
    if not is_new:
        ready.chmod(wanted.st_mode & 0o7777)


def _put_aside(live: Path, kept: Path, keeping: KeptFiles) -> None:
    """The file itself first: undoing tells by it whether there was one."""
    if live.exists():
        keeping.put_aside(live, kept)
    for suffix, companion in companions(live).items():
        if companion.exists():
            keeping.put_aside(companion, kept.with_name(kept.name + suffix))
