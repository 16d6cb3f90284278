"""gpg, which django-dbbackup encrypts with: plaintext is used only when gpg has ended well."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from erp_backup.core.codecs.base import closing_source
from erp_backup.core.errors import CorruptError, KeyUnavailableError, ProgramError, ProgramMissingError
from erp_backup.core.process import Command, ProcessRunner, base_environment, find_program
from erp_backup.core.spaces import no_space_as_error
from erp_backup.core.workspace import Folder
from erp_backup.services.importing.reading import capped

_NO_KEY = (
    "no secret key",
    "no pinentry",
    "bad passphrase",
    "operation cancelled",
    "bad session key",
    "inappropriate ioctl",
)


def decrypt_gpg(runner: ProcessRunner, chunks: Iterable[bytes], folder: Folder, limit: int) -> Path:
    """Decrypt into a private file of the job and return it; it is there only if gpg's exit status was good.

    gpg 2 hands plaintext out before it knows that it is right. Keys and passphrases are gpg's and its agent's business.
    Raises RefusedError for more than ``limit`` bytes, KeyUnavailableError, CorruptError, NoSpaceError,
    ProgramMissingError.
    """
    path = folder.path / f"decrypted-{secrets.token_hex(4)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file, no_space_as_error(folder.path):
            output = runner.stream(_command(), stdin=chunks)
            with closing_source(capped(output, limit)) as source:
                for chunk in source:
                    file.write(chunk)
    except ProgramError as error:
        path.unlink()
        raise _explained(error) from error
    except BaseException:
        path.unlink()
        raise
    return path


def _command() -> Command:
    directories = [Path(entry) for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry]
    program = find_program("gpg", directories)
    if program is None:
        raise ProgramMissingError("gpg is not installed.", remedy="Install it: apt-get install gnupg")
    environment = base_environment()
    if "GNUPGHOME" in os.environ:
        environment["GNUPGHOME"] = os.environ["GNUPGHOME"]
    return Command(
        # Nobody is asked: what the agent does not know is missing.
        argv=(str(program), "--batch", "--no-tty", "--pinentry-mode", "error", "--decrypt"),
        env=environment,
        package="gnupg",
    )


def _explained(error: ProgramError) -> KeyUnavailableError | CorruptError:
    said = error.stderr.lower()
    if any(text in said for text in _NO_KEY):
        return KeyUnavailableError(
            "gpg has no key here that opens it.",
            remedy="Import the secret key into this user's keyring, or unlock it with gpg-agent; then run this again.",
        )
    return CorruptError(
        f"gpg could not decrypt it (status {error.status}): it is damaged, cut off, or not what it seems.",
        remedy="Use another copy. Nothing of it was used.",
    )
