"""age: encryption to recipients, as ``age -d`` reads it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pyrage

from erp_backup.core.codecs.base import Codec, closing_source, slices
from erp_backup.core.codecs.exchange import exchanged
from erp_backup.core.errors import BackupError, CorruptError, KeyUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from erp_backup.core.codecs.exchange import Exchange

_SSH_KEY_START = "-----BEGIN "
_ENCRYPTED_STARTS = ("age-encryption.org/v1", "-----BEGIN AGE ENCRYPTED FILE-----")
_IDENTITY_FILE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Age(Codec):
    """age for recipients (``age1…`` or ``ssh-…`` public keys), opened by identities (the secret keys).

    Encoding needs recipients, decoding identities. age proves that the bytes are whole, not who made them: sign.
    """

    recipients: Sequence[str] = ()
    identities: Sequence[str] = field(default=(), repr=False)
    name: ClassVar[str] = "age"
    suffix: ClassVar[str] = ".age"

    def encode(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the chunks encrypted to every recipient; a thread does the work.

        Raises :class:`KeyUnavailableError` when there is no recipient, or one that is no public key.
        """
        recipients = [parse_recipient(text) for text in self.recipients]
        if not recipients:
            raise KeyUnavailableError("There is no recipient to encrypt to.", remedy="Name a public key.")

        def work(exchange: Exchange) -> None:
            try:
                pyrage.encrypt_io(exchange, exchange, recipients)
            except pyrage.EncryptError as error:
                raise KeyUnavailableError(f"The recipients cannot be used: {error}.") from error

        with closing_source(slices(chunks)) as source:
            yield from exchanged(source, work, name="age-encode")

    def decode(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the decrypted content; a thread does the work. No byte is yielded that is not authenticated.

        Raises :class:`KeyUnavailableError` when no identity fits; a damaged header may look like that, too.
        """
        identities = [parse_identity(text) for text in self.identities]
        if not identities:
            raise KeyUnavailableError(
                "There is no identity to decrypt with.", remedy="Name the file that holds the secret key."
            )

        def work(exchange: Exchange) -> None:
            # Here, where only age's errors arrive: a location's OSError is raised in the consumer's thread.
            try:
                pyrage.decrypt_io(exchange, exchange, identities)
            except (pyrage.DecryptError, OSError) as error:
                raise _decrypt_error(error) from error

        with closing_source(slices(chunks)) as source:
            yield from exchanged(source, work, name="age-decode")


def _decrypt_error(error: Exception) -> BackupError:
    """Return what an error of age's means."""
    if "matching keys" in str(error):
        return KeyUnavailableError(
            "None of the identities fits what was encrypted.",
            remedy="Use the secret key of one of the recipients it was encrypted to.",
        )
    return CorruptError(f"The age data is damaged: {str(error).splitlines()[0]}.")


def parse_recipient(text: str) -> Any:
    """Return pyrage's recipient for a public key; raises :class:`KeyUnavailableError` for anything else."""
    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise KeyUnavailableError(
            f"This is not a recipient of age: {text[:80]!r}.", remedy="Public keys start with age1 or ssh-."
        ) from error


def parse_identity(text: str) -> Any:
    """Return pyrage's identity for a secret key; raises :class:`KeyUnavailableError`, which does not show it."""
    try:
        if text.startswith(_SSH_KEY_START):
            return pyrage.ssh.Identity.from_buffer(text.encode())
        return pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError:
        # "from None": the library's error may quote what it was given.
        raise KeyUnavailableError(
            "An identity cannot be used: it is not a secret key of age, or is locked by a passphrase."
        ) from None


def read_identities(path: Path) -> tuple[str, ...]:
    """Return the secret keys in an identity file: age's form, or one SSH private key.

    Comments and empty lines are skipped. Raises :class:`KeyUnavailableError` for a file that is missing, holds no
    key, or can be read by others.
    """
    text = _read_private(path)
    if text.startswith(_ENCRYPTED_STARTS):
        raise KeyUnavailableError(
            f"The identity file {path} is itself encrypted.", remedy=f"Decrypt it first: age -d {path}"
        )
    if text.startswith(_SSH_KEY_START):
        return (text,)
    lines = (line.strip() for line in text.splitlines())
    identities = tuple(line for line in lines if line and not line.startswith("#"))
    if not identities:
        raise KeyUnavailableError(f"There is no identity in {path}.", remedy="Make one with: age-keygen -o FILE")
    for identity in identities:
        parse_identity(identity)
    return identities


def _read_private(path: Path) -> str:
    """Return a text file's content if nobody but its owner can read it."""
    try:
        # Not blocking: a named pipe without a writer would hold the run for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # The open file is judged, not the name: nobody can swap it in between.
            _refuse_unless_private(path, os.fstat(descriptor).st_mode)
            return os.read(descriptor, _IDENTITY_FILE_LIMIT).decode()
        finally:
            os.close(descriptor)
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not text" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
        # "from None": a decoding error carries the bytes it could not decode.
        raise KeyUnavailableError(f"The identity file {path} cannot be read: {reason}.") from None


def _refuse_unless_private(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise KeyUnavailableError(f"The identity file {path} is not a regular file.")
    if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyUnavailableError(f"The identity file {path} can be used by others.", remedy=f"Run: chmod 600 {path}")
