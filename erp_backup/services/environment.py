"""The outside world in one argument: clock, programs, locations, keys, the reporter, and the private folders.

Services never reach for any of these themselves, so that a test injects a fault by wrapping one of them.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from erp_backup.conf import Config, LocationConfig, get_config
from erp_backup.core import filelock, signing
from erp_backup.core.clock import Clock, SystemClock
from erp_backup.core.codecs import CODECS, Codec
from erp_backup.core.codecs.age import Age, read_identities
from erp_backup.core.codecs.gzip import Gzip
from erp_backup.core.codecs.zstd import Zstd
from erp_backup.core.errors import CorruptError, KeyUnavailableError
from erp_backup.core.process import ProcessRunner
from erp_backup.core.progress import NullReporter, Reporter
from erp_backup.core.spaces import no_space_as_error
from erp_backup.core.workspace import Workspace, require_private
from erp_backup.engines import engine_for
from erp_backup.engines.base import Engine, ForeignRules, Tools
from erp_backup.exceptions import ConfigurationError
from erp_backup.locations import location_for, locations_for
from erp_backup.locations.base import Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a service works with. ``actor`` is who asked, for the history; ``foreign`` what he asked for."""

    config: Config
    clock: Clock
    runner: ProcessRunner
    workspace: Workspace
    locations: tuple[Location, ...]
    reporter: Reporter = field(default_factory=NullReporter)
    actor: str = ""
    foreign: ForeignRules = field(default_factory=ForeignRules)

    @property
    def tools(self) -> Tools:
        """What engines work with."""
        config = self.config
        return Tools(
            clock=self.clock,
            runner=self.runner,
            program_dirs=config.program_dirs,
            jobs=config.jobs,
            lock_timeout=config.lock_timeout,
            idle_limit=config.idle_limit,
            maintenance_database=config.maintenance_database,
            state_dir=config.state_dir,
            pooler=config.restore.pooler,
            foreign=self.foreign,
        )

    def engine(self, alias: str) -> Engine:
        """Return the engine of a database alias. Raises ConfigurationError."""
        self.config.database(alias)
        return engine_for(alias, self.tools)

    def location(self, alias: str) -> Location:
        """Return the location of that alias. Raises ConfigurationError."""
        self.config.location(alias)
        return next(location for location in self.locations if location.alias == alias)

    def signer(self) -> signing.Signer:
        """Return the signer; the first backup of a new installation makes its key. Raises KeyUnavailableError."""
        path = self.config.signing.key_file
        if not path.exists() and path.parent == self.config.state_dir:
            self._make_key(path)
        return signing.load_key(path)

    def _make_key(self, path: Path) -> None:
        """Two first backups at the same moment use one key."""
        with filelock.wait_for(path.parent / "locks" / "signing.lock"), no_space_as_error(path):
            if not path.exists():
                signing.create_key(path)

    def own_verifier(self) -> signing.Verifier:
        """Return who trusts nothing but what this installation has signed. Raises KeyUnavailableError without a key."""
        return signing.Verifier.trusting([signing.load_key(self.config.signing.key_file).public])

    def verifier(self) -> signing.Verifier:
        """Return who is trusted here: our own key, where it is at hand, and ``VERIFY_KEYS``."""
        publics = [signing.parse_public(text) for text in self.config.signing.verify_keys]
        if self.config.signing.key_file.exists():
            publics.append(signing.load_key(self.config.signing.key_file).public)
        return signing.Verifier.trusting(publics)

    def encoders(self, *, compress: bool = True, encrypt: bool | None = None) -> list[Codec]:
        """Return the codecs of a new archive, in the order they are applied. Raises ConfigurationError."""
        compression, encryption = self.config.compression, self.config.encryption
        codecs: list[Codec] = []
        if compress and compression.method == Zstd.name:
            codecs.append(Zstd(level=compression.level, workers=compression.workers))
        elif compress and compression.method == Gzip.name:
            codecs.append(Gzip(level=compression.level))
        if encrypt and not encryption.recipients:
            raise ConfigurationError(
                "Encryption was asked for, but there is nobody to encrypt to.",
                remedy="Name public keys in ERP_BACKUP['ENCRYPTION']['RECIPIENTS'] (age-keygen makes one).",
            )
        if encryption.recipients and encrypt is not False:
            codecs.append(Age(recipients=encryption.recipients))
        return codecs

    def decoders(self, names: Sequence[str]) -> list[Codec]:
        """Return the codecs that undo ``names`` (a manifest's, in the order they were applied).

        Raises KeyUnavailableError when an encrypted archive cannot be opened here.
        """
        unknown = [name for name in names if name not in CODECS]
        if unknown:
            raise CorruptError(f"The archive was made with {unknown[0]!r}, which this version does not know.")
        return [self._age() if name == Age.name else CODECS[name]() for name in names]

    def _age(self) -> Age:
        path = self.config.encryption.identity_file
        if path is None:
            raise KeyUnavailableError(
                "The archive is encrypted and there is no key here to open it.",
                remedy="Name the age identity file in ERP_BACKUP['ENCRYPTION']['IDENTITY_FILE'].",
            )
        return Age(identities=read_identities(path))


def build_environment(
    *, reporter: Reporter | None = None, actor: str = "", config: Config | None = None
) -> Environment:
    """Return the environment of this project, or of ``config``.

    Raises ConfigurationError, and RefusedError for a state folder that others can read.
    """
    config = config or get_config()
    require_private(config.state_dir)
    clock = SystemClock()
    return Environment(
        config=config,
        clock=clock,
        runner=ProcessRunner(clock),
        workspace=Workspace(config.state_dir),
        locations=locations_for(config.locations),
        reporter=reporter or NullReporter(),
        actor=actor or _who(),
    )


def folder_location(path: Path) -> Location:
    """Return a location for a folder that is not configured (``--output-path``), wherever the next run is started."""
    folder = path.absolute()
    return location_for(LocationConfig(alias=str(folder), folder=folder))


def _who() -> str:
    """The operating system's user; the environment's USER can be anything."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
