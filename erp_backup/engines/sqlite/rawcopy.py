"""A program of its own: ``rawcopy.py FILE COPY`` copies bytes durably, ``rawcopy.py FILE`` writes the file's head.

It touches live database files. A process that closes such a file loses the locks of all its SQLite connections on it;
this process has none. It imports next to nothing, because writers wait while it starts.
"""

import errno
import os
import sys

_HEAD = 100
_CHUNK = 1 << 26
_NOT_HERE = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}


def copy(source: int, target: int) -> None:
    """Copy all bytes; blocks are shared where the file system can."""
    try:
        while os.copy_file_range(source, target, _CHUNK):
            pass
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    # From where that ended: on some file systems at once.
    while chunk := os.read(source, 1 << 20):
        view = memoryview(chunk)
        while view:
            view = view[os.write(target, view) :]


def main() -> None:
    """Do what the arguments say; a failure is the traceback."""
    source = os.open(sys.argv[1], os.O_RDONLY)
    if len(sys.argv) == 2:  # noqa: PLR2004 - the file alone
        os.write(1, os.read(source, _HEAD))
        return
    target = os.open(sys.argv[2], os.O_WRONLY)
    copy(source, target)
    os.fsync(target)


if __name__ == "__main__":
    main()
