"""What services are given: keys, locations, codecs, folders."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest

from erp_backup.conf import CompressionConfig, EncryptionConfig, LocationConfig, SigningConfig
from erp_backup.core import signing
from erp_backup.core.errors import CorruptError, KeyUnavailableError, RefusedError
from erp_backup.exceptions import ConfigurationError
from erp_backup.services.environment import Environment, build_environment, folder_location
from tests.services.conftest import MakeEnvironment
from tests.support.host import REPOSITORY

IDENTITY = pyrage.x25519.Identity.generate()
RECIPIENT = str(IDENTITY.to_public())
FIRST = """
import sys
from pathlib import Path
from tests.support.environments import environment_in
import django
django.setup()
environment = environment_in(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(environment.signer().public.hex())
"""


class TestSigning:
    """Keys."""

    def test_first_use__makes_the_key(self, environment: Environment) -> None:
        """A new installation signs without being told how; the next run uses the same key."""
        made = environment.signer().public

        assert made == environment.signer().public == signing.load_key(environment.config.signing.key_file).public

    def test_two_first_runs__one_key(self, tmp_path: Path) -> None:
        """Two databases' first backups at the same moment are signed by the same key."""
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", FIRST, str(tmp_path)],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdout is not None
            assert "ready\n" == process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        keys = {process.communicate()[0] for process in processes}

        assert 1 == len(keys)

    def test_key_elsewhere_that_is_missing__not_made(self, environment: Environment, tmp_path: Path) -> None:
        """A key that somebody keeps elsewhere is not replaced by a new one because its disk is not mounted."""
        elsewhere = SigningConfig(key_file=tmp_path / "keys" / "signing.key")
        environment = replace(environment, config=replace(environment.config, signing=elsewhere))
        with pytest.raises(KeyUnavailableError, match=r"signing\.key"):
            environment.signer()

    def test_trusted__own_key_and_those_of_the_settings(self, environment: Environment, tmp_path: Path) -> None:
        """Verifications trust both; retention trusts nothing but the own key."""
        other = signing.create_key(tmp_path / "other.key")
        trusting = replace(environment.config.signing, verify_keys=(signing.format_public(other.public),))
        environment = replace(environment, config=replace(environment.config, signing=trusting))
        own = environment.signer().public

        assert {own, other.public} == set(environment.verifier().keys.values())
        assert {own} == set(environment.own_verifier().keys.values())

    def test_no_key_yet__only_others_are_trusted(self, environment: Environment) -> None:
        """A machine that only verifies needs no key of its own, and gets none."""
        assert {} == environment.verifier().keys
        assert not environment.config.signing.key_file.exists()

    def test_nonsense_among_the_keys__said(self, environment: Environment) -> None:
        """The text that is no key stands in the message."""
        trusting = replace(environment.config.signing, verify_keys=("nonsense",))
        environment = replace(environment, config=replace(environment.config, signing=trusting))
        with pytest.raises(KeyUnavailableError, match="'nonsense' is not a public key"):
            environment.verifier()


class TestCodecs:
    """How archives are encoded."""

    @pytest.mark.parametrize(
        ("method", "compress", "recipients", "encrypt", "codecs"),
        [
            ("zstd", True, (), None, ["zstd"]),
            ("gzip", True, (), None, ["gzip"]),
            ("none", True, (), None, []),
            ("zstd", False, (), None, []),
            ("zstd", True, (RECIPIENT,), None, ["zstd", "age"]),
            ("zstd", True, (RECIPIENT,), True, ["zstd", "age"]),
            ("zstd", True, (RECIPIENT,), False, ["zstd"]),
            ("zstd", False, (RECIPIENT,), None, ["age"]),
        ],
    )
    def test_settings_and_request__codecs_in_order(
        self,
        make_environment: MakeEnvironment,
        method: str,
        compress: bool,  # noqa: FBT001 - a parameter of the test
        recipients: tuple[str, ...],
        encrypt: bool | None,  # noqa: FBT001 - the same
        codecs: list[str],
    ) -> None:
        """First compressed, then encrypted."""
        environment = make_environment(
            compression=CompressionConfig(method=method, level=1), encryption=EncryptionConfig(recipients=recipients)
        )

        assert codecs == [codec.name for codec in environment.encoders(compress=compress, encrypt=encrypt)]

    def test_encryption_asked_for_without_recipients__refused(self, environment: Environment) -> None:
        """An archive that should be encrypted is never stored as it is."""
        with pytest.raises(ConfigurationError, match="RECIPIENTS"):
            environment.encoders(encrypt=True)

    def test_encrypted_without_an_identity__key_unavailable(self, environment: Environment) -> None:
        """The operator's key is kept elsewhere: the message names the setting."""
        with pytest.raises(KeyUnavailableError, match="IDENTITY_FILE"):
            environment.decoders(["zstd", "age"])

    def test_encoded_and_decoded__the_same(self, make_environment: MakeEnvironment, tmp_path: Path) -> None:
        """What one environment encodes, one with the identity decodes."""
        identity = tmp_path / "drill.key"
        identity.touch(mode=0o600)
        identity.write_text(str(IDENTITY))
        environment = make_environment(
            encryption=EncryptionConfig(recipients=(RECIPIENT,), identity_file=identity),
        )
        encoded: object = [b"content"]
        for codec in environment.encoders():
            encoded = codec.encode(encoded)  # type: ignore[arg-type]  # chunks all the way
        for codec in reversed(environment.decoders(["zstd", "age"])):
            encoded = codec.decode(encoded)  # type: ignore[arg-type]  # the same

        assert b"content" == b"".join(encoded)  # type: ignore[arg-type]  # the same

    def test_unknown_codec__corrupt(self, environment: Environment) -> None:
        """A name from a manifest is looked up, never imported."""
        with pytest.raises(CorruptError, match=r"os\.system"):
            environment.decoders(["os.system"])


class TestPlaces:
    """Databases and locations by alias."""

    def test_location__by_alias_or_nearest_known_one(self, make_environment: MakeEnvironment) -> None:
        """An unknown alias is an error with a hint."""
        environment = make_environment("local", "offsite")

        assert "offsite" == environment.location("offsite").alias
        with pytest.raises(ConfigurationError, match="Did you mean 'offsite'"):
            environment.location("off-site")

    def test_two_locations_in_one_place__refused(self, environment: Environment, tmp_path: Path) -> None:
        """Nothing is stored where one copy's clean-up would delete the other."""
        twice = tuple(LocationConfig(alias=alias, folder=tmp_path / "local") for alias in ("local", "offsite"))
        with pytest.raises(ConfigurationError, match="'local' and 'offsite' are one place"):
            build_environment(config=replace(environment.config, locations=twice))

    def test_engine_of_an_unknown_database__hint(self, environment: Environment) -> None:
        """So is an unknown database."""
        with pytest.raises(ConfigurationError, match="Did you mean 'default'"):
            environment.engine("defalt")

    def test_folder__absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder given on the command line is found again from anywhere."""
        monkeypatch.chdir(tmp_path)
        location = folder_location(Path("backups"))

        assert str(tmp_path / "backups") == location.alias
        assert f"{tmp_path}/backups/x.dump" == location.describe("x.dump")

    def test_state_folder_open_to_others__refused(self, environment: Environment) -> None:
        """Nothing is done with a key that others may read."""
        environment.config.state_dir.chmod(0o755)
        with pytest.raises(RefusedError, match="chmod 700"):
            build_environment(config=environment.config)

    def test_actor__the_systems_user(self, environment: Environment) -> None:
        """The history says who, without being told."""
        assert build_environment(config=environment.config).actor
        assert "cron" == build_environment(config=environment.config, actor="cron").actor
