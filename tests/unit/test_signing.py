"""Signing keys: private, whole, and never shown."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448

from erp_backup.core.errors import CorruptError, KeyUnavailableError
from erp_backup.core.signing import Signer, Verifier, create_key, format_public, key_identifier, load_key, parse_public


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the key goes."""
    return tmp_path / "signing.key"


class TestKeyFiles:
    """Made and loaded."""

    @pytest.mark.parametrize("umask", [0o000, 0o277])
    def test_created__private_whatever_the_umask(self, path: Path, umask: int) -> None:
        """The file is its owner's only, and loads as the same key."""
        before = os.umask(umask)
        try:
            made = create_key(path)
        finally:
            os.umask(before)

        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        assert made.public == load_key(path).public
        assert [path] == list(path.parent.iterdir())

    def test_taken__never_overwritten(self, path: Path) -> None:
        """A key that is there stays: with it every backup so far is verified."""
        create_key(path)
        before = path.read_bytes()
        with pytest.raises(FileExistsError):
            create_key(path)

        assert before == path.read_bytes()
        assert [path] == list(path.parent.iterdir())

    def test_disk_full__no_half_key(self, path: Path) -> None:
        """A key that could not be written whole is not there, so that the next run makes one."""
        code = """
import resource, sys
from pathlib import Path
from erp_backup.core.signing import create_key
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
create_key(Path(sys.argv[1]))
"""
        result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)

        assert "File too large" in result.stderr
        assert [] == list(path.parent.iterdir())

    def test_openssl__reads_it(self, path: Path) -> None:
        """The file is plain PKCS#8: no line of ours is needed to use it."""
        create_key(path)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)

        assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----")
        assert load_key(path).public == key.public_key().public_bytes_raw()

    def test_missing__key_unavailable(self, path: Path) -> None:
        """The message names the file."""
        with pytest.raises(KeyUnavailableError, match=r"signing\.key cannot be read: No such file"):
            load_key(path)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
    def test_readable_by_others__refused(self, path: Path, mode: int) -> None:
        """A key that others may have read is none; the remedy is the command."""
        create_key(path)
        path.chmod(mode)
        with pytest.raises(KeyUnavailableError, match=f"chmod 600 {path}"):
            load_key(path)

    @pytest.mark.parametrize(
        "content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
    )
    def test_no_key__refused(self, path: Path, content: bytes) -> None:
        """A file that is no key is said to be none."""
        path.touch(mode=0o600)
        path.write_bytes(content)
        with pytest.raises(KeyUnavailableError, match="not a private key"):
            load_key(path)

    def test_encrypted_key__refused(self, path: Path) -> None:
        """A passphrase would have to be typed at two in the morning."""
        create_key(path)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
        path.write_bytes(pem)
        with pytest.raises(KeyUnavailableError, match="not a private key"):
            load_key(path)

    def test_key_of_another_kind__refused(self, path: Path) -> None:
        """Another algorithm's key does not sign manifests."""
        pem = ed448.Ed448PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.touch(mode=0o600)
        path.write_bytes(pem)
        with pytest.raises(KeyUnavailableError, match="not an Ed25519 key"):
            load_key(path)

    def test_repr__shows_no_key(self, path: Path) -> None:
        """A traceback with local variables shows nothing of it."""
        assert "Signer()" == repr(create_key(path))


class TestSignatures:
    """Signed and verified."""

    @pytest.fixture
    def signer(self, path: Path) -> Signer:
        """A key."""
        return create_key(path)

    def test_signed__verifies(self, signer: Signer) -> None:
        """A signature over the message verifies, and names algorithm and key."""
        signature = signer.sign(b"message")

        assert {"algorithm", "key", "value"} == set(signature)
        assert key_identifier(signer.public) == signature["key"]
        Verifier.trusting([signer.public]).verify(b"message", signature)

    @pytest.mark.parametrize("message", [b"", b"message ", b"Message"])
    def test_other_message__corrupt(self, signer: Signer, message: bytes) -> None:
        """It verifies nothing else."""
        with pytest.raises(CorruptError):
            Verifier.trusting([signer.public]).verify(message, signer.sign(b"message"))

    def test_nobody_trusted__key_unavailable(self, signer: Signer) -> None:
        """Without keys, nothing is believed."""
        with pytest.raises(KeyUnavailableError):
            Verifier.trusting([]).verify(b"message", signer.sign(b"message"))


class TestPublicKeys:
    """Public keys in settings."""

    def test_text__comes_back(self, path: Path) -> None:
        """What is printed can be put into settings."""
        public = create_key(path).public

        assert public == parse_public(format_public(public))

    @pytest.mark.parametrize("text", ["", "AAAA", "nonsense!", "é", "A" * 43, "A" * 44])
    def test_nonsense__key_unavailable(self, text: str) -> None:
        """What is no key is said to be none, with the text as it stands in the settings."""
        with pytest.raises(KeyUnavailableError, match="is not a public key"):
            parse_public(text)
