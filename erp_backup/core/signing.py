"""Ed25519 signatures (RFC 8032): who made a manifest, and that nobody edited it since."""

from __future__ import annotations

import base64
import binascii
import hashlib
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from erp_backup.core import files
from erp_backup.core.errors import CorruptError, KeyUnavailableError

ALGORITHM = "ed25519"


def key_identifier(public: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a raw public key (32 bytes)."""
    return hashlib.sha256(public).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Signer:
    """Holds the private key. Its repr does not show it."""

    _key: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> dict[str, str]:
        """Return the signature object that stands in a manifest."""
        return _signature(key_identifier(self.public), self._key.sign(message))


def _signature(identifier: str, raw: bytes) -> dict[str, str]:
    return {"algorithm": ALGORITHM, "key": identifier, "value": base64.b64encode(raw).decode()}


@dataclass(frozen=True, slots=True)
class Verifier:
    """Knows the public keys that are trusted here, by identifier."""

    keys: dict[str, bytes]

    @classmethod
    def trusting(cls, publics: Iterable[bytes]) -> Verifier:
        """Return a verifier that trusts these raw public keys."""
        return cls({key_identifier(public): public for public in publics})

    def verify(self, message: bytes, signature: Any) -> None:
        """Return if ``signature`` is a trusted key's over ``message``.

        Raises CorruptError when there is none or it does not fit, KeyUnavailableError when its key is not trusted here.
        """
        if not isinstance(signature, dict) or signature.get("algorithm") != ALGORITHM:
            raise CorruptError("It carries no signature of ours.")
        identifier, value = signature.get("key"), signature.get("value")
        if not isinstance(identifier, str) or identifier not in self.keys:
            raise KeyUnavailableError(
                f"It is signed with the key {identifier!r}, which is not trusted here.",
                remedy="If it is yours, add its public key to ERP_BACKUP['SIGNING']['VERIFY_KEYS'].",
            )
        try:
            raw = base64.b64decode(str(value), validate=True)
            Ed25519PublicKey.from_public_bytes(self.keys[identifier]).verify(raw, message)
        except (InvalidSignature, binascii.Error, ValueError) as error:
            raise CorruptError("Its signature does not fit its content: it was edited or damaged.") from error
        # Base64 has several spellings of one value, and keys beside these three are signed by nobody.
        if signature != _signature(identifier, raw):
            raise CorruptError("Its signature is not written as it was made: it was edited or damaged.")


def create_key(path: Path) -> Signer:
    """Make a new key at ``path`` (PKCS#8 PEM, mode 0600) and return its signer.

    The file is whole or not there, so that a full disk does not leave half a key. Raises FileExistsError for a path
    that is taken.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files.create_whole(path, pem)
    return Signer(key)


def load_key(path: Path) -> Signer:
    """Return the signer of the key file at ``path``.

    Raises KeyUnavailableError when it is missing, unreadable, readable by others, or not an Ed25519 key.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        pem = path.read_bytes()
    except OSError as error:
        raise KeyUnavailableError(f"The signing key {path} cannot be read: {error.strerror}.") from error
    if mode & 0o077:
        raise KeyUnavailableError(
            f"The signing key {path} can be read by others (mode {mode:04o}).", remedy=f"Run: chmod 600 {path}"
        )
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnavailableError(f"{path} is not a private key in PEM.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnavailableError(f"{path} is not an Ed25519 key.")
    return Signer(key)


def parse_public(text: str) -> bytes:
    """Return the raw public key in ``text`` (base64 of 32 bytes). Raises KeyUnavailableError."""
    try:
        raw = base64.b64decode(text, validate=True)
        Ed25519PublicKey.from_public_bytes(raw)
    except (binascii.Error, ValueError) as error:
        raise KeyUnavailableError(f"{text!r} is not a public key.", remedy="It is base64 of 32 bytes.") from error
    return raw


def format_public(public: bytes) -> str:
    """Return a raw public key as text for settings."""
    return base64.b64encode(public).decode()
