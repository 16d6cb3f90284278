"""Settings: every key with its default, its own value, and what is said when it means nothing."""

# ruff: noqa: E501  messages stand as people read them

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from erp_backup.conf import (
    KEYS,
    CompressionConfig,
    Config,
    DatabaseConfig,
    EncryptionConfig,
    LocationConfig,
    MaintenanceConfig,
    RestoreConfig,
    SigningConfig,
    current_problems,
    get_config,
)
from erp_backup.exceptions import ConfigurationError, UsageError

BASE = Path(settings.BASE_DIR)
STATE = BASE / ".erp_backup"
DATABASES = {alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{alias}.db"} for alias in ("default", "archive")}
SIGNING_KEY = STATE / "signing.key"

# Key, what is written, field of Config, its default, what is read.
CASES: list[tuple[str, Any, str, Any, Any]] = [
    (
        "DATABASES",
        {"default": {"EXCLUDE_TABLES": ["session"], "SCHEMAS": ["erp"], "FORMAT": "sql", "PREFIX": "shop"}},
        "databases",
        (DatabaseConfig(alias="default"),),
        (DatabaseConfig(alias="default", excluded_tables=("session",), schemas=("erp",), format="sql", prefix="shop"),),
    ),
    (
        "LOCATIONS",
        {"backups": {}, "away": {"STORAGE": "backups", "ROLE": "offsite", "PREFIX": "erp"}},
        "locations",
        (LocationConfig(alias="local", folder=STATE / "backups"),),
        (
            LocationConfig(alias="backups", storage="backups"),
            LocationConfig(alias="away", storage="backups", role="offsite", prefix="erp"),
        ),
    ),
    (
        "COMPRESSION",
        {"METHOD": "gzip", "LEVEL": 9, "WORKERS": 2},
        "compression",
        CompressionConfig(method="zstd", level=1, workers=0),
        CompressionConfig(method="gzip", level=9, workers=2),
    ),
    (
        "ENCRYPTION",
        {"METHOD": "age", "RECIPIENTS": ["age1x"], "IDENTITY_FILE": "/keys/drill"},
        "encryption",
        EncryptionConfig(method="age", recipients=(), identity_file=None),
        EncryptionConfig(method="age", recipients=("age1x",), identity_file=Path("/keys/drill")),
    ),
    (
        "SIGNING",
        {"KEY_FILE": "/keys/sign", "VERIFY_KEYS": ["AAAA"]},
        "signing",
        SigningConfig(key_file=SIGNING_KEY),
        SigningConfig(key_file=Path("/keys/sign"), verify_keys=("AAAA",)),
    ),
    ("RETENTION", {"keep_last": 3}, "keep_last", 10, 3),
    (
        "RESTORE",
        {"KEEP_REPLACED": 5, "POOLER": "host=pooler dbname=pgbouncer"},
        "restore",
        RestoreConfig(),
        RestoreConfig(keep_replaced=5, pooler="host=pooler dbname=pgbouncer"),
    ),
    ("MODEL_CHECKS", ["a", "b"], "model_checks", (), ("a", "b")),
    ("MODEL_CHECK_TIME_LIMIT", 7, "model_check_time_limit", timedelta(minutes=5), timedelta(seconds=7)),
    ("STATE_DIR", "/var/lib/erp", "state_dir", STATE, Path("/var/lib/erp")),
    ("PROBE", "/health", "probe", "", "/health"),
    ("RELEASE", "2026.1", "release", "", "2026.1"),
    ("RPO", timedelta(hours=1), "rpo", timedelta(hours=24), timedelta(hours=1)),
    ("RTO", 60.5, "rto", timedelta(hours=4), timedelta(seconds=60.5)),
    ("JOBS", 7, "jobs", min(4, os.cpu_count() or 1), 7),
    ("PROGRAM_DIRS", ["/opt/pg/bin"], "program_dirs", (), (Path("/opt/pg/bin"),)),
    ("MAINTENANCE_DATABASE", "template1", "maintenance_database", "postgres", "template1"),
    ("LOCK_TIMEOUT", timedelta(seconds=2), "lock_timeout", 10.0, 2.0),
    ("IDLE_LIMIT", 30, "idle_limit", 600.0, 30.0),
    ("READ_BACK", False, "read_back", True, False),
    (
        "MAINTENANCE",
        {"FILE": "/run/erp/closed", "RETRY_AFTER": timedelta(minutes=5), "ALLOW": ["/health"]},
        "maintenance",
        MaintenanceConfig(file=STATE / "maintenance.json"),
        MaintenanceConfig(file=Path("/run/erp/closed"), is_shared=True, retry_after=300, allow=("/health",)),
    ),
]


def config_with(**raw: Any) -> Config:
    """The settings with this ERP_BACKUP."""
    with override_settings(ERP_BACKUP=raw):
        return get_config()


def problems_with(**raw: Any) -> list[str]:
    """What is wrong with this ERP_BACKUP."""
    with override_settings(ERP_BACKUP=raw):
        return [str(problem) for problem in current_problems()]


class TestKeys:
    """Each key."""

    def test_cases__are_all_keys(self) -> None:
        """No key is without its test here."""
        assert list(KEYS) == [case[0] for case in CASES]

    @pytest.mark.parametrize(("_key", "_given", "field", "default", "_read"), CASES, ids=[case[0] for case in CASES])
    def test_absent__default(self, _key: str, _given: Any, field: str, default: Any, _read: Any) -> None:
        """Nothing has to be written."""
        assert default == getattr(config_with(), field)

    @pytest.mark.parametrize(("key", "given", "field", "_default", "read"), CASES, ids=[case[0] for case in CASES])
    def test_written__read(self, key: str, given: Any, field: str, _default: Any, read: Any) -> None:
        """What is written is what is used."""
        assert read == getattr(config_with(**{key: given}), field)

    @pytest.mark.parametrize(("method", "level"), [("zstd", 1), ("gzip", 6), ("none", 0)])
    def test_compression_method__its_usual_level(self, method: str, level: int) -> None:
        """Each method has a level of its own."""
        assert level == config_with(COMPRESSION={"METHOD": method}).compression.level

    def test_relative_paths__below_the_project(self) -> None:
        """Cron starts commands anywhere: a relative path means the same everywhere."""
        found = config_with(
            STATE_DIR="state",
            SIGNING={"KEY_FILE": "keys/sign"},
            ENCRYPTION={"IDENTITY_FILE": "keys/drill"},
            PROGRAM_DIRS=["bin"],
        )

        assert BASE / "state" == found.state_dir
        assert BASE / "keys/sign" == found.signing.key_file
        assert BASE / "keys/drill" == found.encryption.identity_file
        assert (BASE / "bin",) == found.program_dirs

    def test_paths_as_paths__read(self, tmp_path: Path) -> None:
        """A path may be written as one."""
        assert tmp_path == config_with(STATE_DIR=tmp_path).state_dir

    @pytest.mark.parametrize("key", ["STATE_DIR"])
    @pytest.mark.parametrize("empty", ["", None])
    def test_empty_from_the_environment__default(self, key: str, empty: str | None) -> None:
        """`os.environ.get(...)` gives nothing where nothing is set."""
        assert config_with() == config_with(**{key: empty})
        assert None is config_with(ENCRYPTION={"IDENTITY_FILE": empty}).encryption.identity_file

    def test_no_base_dir__beside_the_settings(self, tmp_path: Path) -> None:
        """A project without BASE_DIR has its state beside its settings' package, wherever a command is started."""
        (tmp_path / "site" / "conf").mkdir(parents=True)
        (tmp_path / "site" / "conf" / "__init__.py").touch()
        (tmp_path / "site" / "conf" / "production.py").write_text(
            "INSTALLED_APPS = ['erp_backup']\n"
            "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'erp.db'}}\n"
        )
        code = "import django; django.setup(); from erp_backup.conf import get_config; print(get_config().state_dir)"
        environment = {
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "conf.production",
            "PYTHONPATH": f"{tmp_path / 'site'}:{BASE}",
        }
        found = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True, check=True
        )

        assert f"{tmp_path}/site/.erp_backup\n" == found.stdout


class TestUnknownKeys:
    """Typing errors."""

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            ({"LOCATION": {}}, "ERP_BACKUP has an unknown key 'LOCATION'. Did you mean 'LOCATIONS'?"),
            ({"rpo": 1}, "ERP_BACKUP has an unknown key 'rpo'. Did you mean 'RPO'?"),
            ({"STATEDIR": "x"}, "ERP_BACKUP has an unknown key 'STATEDIR'. Did you mean 'STATE_DIR'?"),
            (
                {"COMPRESSION": {"METHODE": "zstd"}},
                "ERP_BACKUP['COMPRESSION'] has an unknown key 'METHODE'. Did you mean 'METHOD'?",
            ),
            (
                {"RETENTION": {"KEEP_LAST": 3}},
                "ERP_BACKUP['RETENTION'] has an unknown key 'KEEP_LAST'. Did you mean 'keep_last'?",
            ),
            (
                {"DATABASES": {"default": {"EXCLUDE": []}}},
                "ERP_BACKUP['DATABASES']['default'] has an unknown key 'EXCLUDE'. Did you mean 'EXCLUDE_TABLES'?",
            ),
            (
                {"LOCATIONS": {"backups": {"BACKEND": "x"}}},
                "ERP_BACKUP['LOCATIONS']['backups'] has an unknown key 'BACKEND'. Known are: PREFIX, ROLE, STORAGE.",
            ),
            ({3: 4}, "ERP_BACKUP has an unknown key 3. Known are: "),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_unknown__nearest_known_one(self, raw: dict[Any, Any], message: str) -> None:
        """The message names the place, and the key that was meant."""
        with override_settings(ERP_BACKUP=raw):
            [found] = [str(problem) for problem in current_problems()]

        assert found.startswith(message)

    def test_several__all_of_them(self) -> None:
        """A system check tells of everything at once."""
        assert 3 == len(problems_with(LOCATION={}, RPO="a day", JOBS=0))


class TestValues:
    """Values that mean nothing."""

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            ({"DATABASES": ["default"]}, "ERP_BACKUP['DATABASES'] is not a dictionary."),
            ({"DATABASES": {}}, "ERP_BACKUP['DATABASES'] names no database."),
            ({"DATABASES": {"default": None}}, "ERP_BACKUP['DATABASES']['default'] is not a dictionary."),
            ({"DATABASES": {"defualt": {}}}, "ERP_BACKUP['DATABASES'] names 'defualt', which DATABASES does not have. Did you mean 'default'?"),
            # Letter by letter, this would exclude every table: '*' is one of its letters.
            ({"DATABASES": {"default": {"EXCLUDE_TABLES": "erp_*"}}}, "ERP_BACKUP['DATABASES']['default']['EXCLUDE_TABLES'] is 'erp_*', not a list. Write ['erp_*']."),
            ({"DATABASES": {"default": {"SCHEMAS": "erp"}}}, "ERP_BACKUP['DATABASES']['default']['SCHEMAS'] is 'erp', not a list."),
            ({"DATABASES": {"default": {"PREFIX": 1}}}, "ERP_BACKUP['DATABASES']['default']['PREFIX'] is 1."),
            ({"LOCATIONS": ["backups"]}, "ERP_BACKUP['LOCATIONS'] is not a dictionary."),
            ({"LOCATIONS": {"local": "backups"}}, "ERP_BACKUP['LOCATIONS']['local'] is not a dictionary."),
            ({"LOCATIONS": {"offsite": {}}}, "ERP_BACKUP['LOCATIONS']['offsite']['STORAGE'] names 'offsite', which STORAGES does not have."),
            ({"LOCATIONS": {"l": {"STORAGE": "backup"}}}, "ERP_BACKUP['LOCATIONS']['l']['STORAGE'] names 'backup', which STORAGES does not have. Did you mean 'backups'?"),
            ({"LOCATIONS": {"backups": {"ROLE": "off-site"}}}, "ERP_BACKUP['LOCATIONS']['backups']['ROLE'] is 'off-site'. Did you mean 'offsite'?"),
            ({"LOCATIONS": {"backups": {"PREFIX": 7}}}, "ERP_BACKUP['LOCATIONS']['backups']['PREFIX'] is 7."),
            ({"COMPRESSION": "zstd"}, "ERP_BACKUP['COMPRESSION'] is not a dictionary."),
            ({"COMPRESSION": {"METHOD": "gz"}}, "ERP_BACKUP['COMPRESSION']['METHOD'] is 'gz'. Did you mean 'gzip'?"),
            ({"COMPRESSION": {"LEVEL": "fast"}}, "ERP_BACKUP['COMPRESSION']['LEVEL'] is 'fast'. Write a whole number from 1 to 22."),
            ({"COMPRESSION": {"LEVEL": 23}}, "ERP_BACKUP['COMPRESSION']['LEVEL'] is 23."),
            ({"COMPRESSION": {"METHOD": "gzip", "LEVEL": 10}}, "ERP_BACKUP['COMPRESSION']['LEVEL'] is 10. Write a whole number from 1 to 9."),
            ({"COMPRESSION": {"WORKERS": -1}}, "ERP_BACKUP['COMPRESSION']['WORKERS'] is -1. Write a whole number of at least 0."),
            ({"ENCRYPTION": {"METHOD": "pgp"}}, "ERP_BACKUP['ENCRYPTION']['METHOD'] is 'pgp'."),
            ({"ENCRYPTION": {"RECIPIENTS": "age1x"}}, "ERP_BACKUP['ENCRYPTION']['RECIPIENTS'] is 'age1x', not a list."),
            ({"ENCRYPTION": {"RECIPIENTS": [5]}}, "ERP_BACKUP['ENCRYPTION']['RECIPIENTS'][0] is 5."),
            ({"ENCRYPTION": {"IDENTITY_FILE": 5}}, "ERP_BACKUP['ENCRYPTION']['IDENTITY_FILE'] is 5."),
            ({"SIGNING": {"VERIFY_KEYS": "AAAA"}}, "ERP_BACKUP['SIGNING']['VERIFY_KEYS'] is 'AAAA', not a list."),
            ({"SIGNING": None}, "ERP_BACKUP['SIGNING'] is not a dictionary."),
            ({"RETENTION": {"keep_last": 0}}, "ERP_BACKUP['RETENTION']['keep_last'] is 0. Write a whole number of at least 1."),
            ({"RETENTION": {"keep_last": True}}, "ERP_BACKUP['RETENTION']['keep_last'] is True."),
            ({"RETENTION": 5}, "ERP_BACKUP['RETENTION'] is not a dictionary."),
            ({"MODEL_CHECKS": "users"}, "ERP_BACKUP['MODEL_CHECKS'] is not a list of model checks."),
            ({"MODEL_CHECKS": {"users": 1}}, "ERP_BACKUP['MODEL_CHECKS'] is not a list of model checks."),
            ({"MODEL_CHECK_TIME_LIMIT": 0}, "ERP_BACKUP['MODEL_CHECK_TIME_LIMIT'] is 0:00:00."),
            ({"STATE_DIR": 5}, "ERP_BACKUP['STATE_DIR'] is 5. Write it as a path."),
            ({"PROBE": ["/health"]}, "ERP_BACKUP['PROBE'] is ['/health']. Write it as a string."),
            ({"RELEASE": 2026.1}, "ERP_BACKUP['RELEASE'] is 2026.1. Write it as a string."),
            ({"RPO": "24h"}, "ERP_BACKUP['RPO'] is neither a timedelta nor a number of seconds."),
            ({"RPO": True}, "ERP_BACKUP['RPO'] is neither a timedelta nor a number of seconds."),
            ({"RTO": timedelta(hours=-4)}, "ERP_BACKUP['RTO'] is -1 day, 20:00:00. Write a time that is longer than nothing."),
            ({"JOBS": 0}, "ERP_BACKUP['JOBS'] is 0. Write a whole number of at least 1."),
            ({"JOBS": "4"}, "ERP_BACKUP['JOBS'] is '4'."),
            ({"PROGRAM_DIRS": "/opt/pg/bin"}, "ERP_BACKUP['PROGRAM_DIRS'] is '/opt/pg/bin', not a list. Write ['/opt/pg/bin']."),
            ({"PROGRAM_DIRS": [""]}, "ERP_BACKUP['PROGRAM_DIRS'] is ''."),
            ({"MAINTENANCE_DATABASE": 1}, "ERP_BACKUP['MAINTENANCE_DATABASE'] is 1."),
            ({"LOCK_TIMEOUT": None}, "ERP_BACKUP['LOCK_TIMEOUT'] is neither a timedelta nor a number of seconds."),
            ({"IDLE_LIMIT": -1}, "ERP_BACKUP['IDLE_LIMIT'] is -1 day, 23:59:59."),
            ({"MAINTENANCE": {"RETRY_AFTER": 0}}, "ERP_BACKUP['MAINTENANCE']['RETRY_AFTER'] is 0:00:00."),
            ({"MAINTENANCE": {"ALLOW": "/health"}}, "ERP_BACKUP['MAINTENANCE']['ALLOW'] is '/health', not a list."),
            ({"MAINTENANCE": {"ALLOW": ["/"]}}, "ERP_BACKUP['MAINTENANCE']['ALLOW'] holds '/'. Write the beginnings of paths,"),
            ({"MAINTENANCE": {"ALLOW": ["health"]}}, "ERP_BACKUP['MAINTENANCE']['ALLOW'] holds 'health'."),
            ({"MAINTENANCE": {"FILE": 5}}, "ERP_BACKUP['MAINTENANCE']['FILE'] is 5. Write it as a path."),
            ({"READ_BACK": "no"}, "ERP_BACKUP['READ_BACK'] is 'no'. Write True or False."),
        ],
        ids=lambda value: str(value)[:40],
    )  # fmt: skip
    def test_nonsense__said_with_its_place(self, raw: dict[str, Any], message: str) -> None:
        """The one thing that is wrong is told once, with its place and what to write, and stops every command."""
        [found] = problems_with(**raw)

        assert found.startswith(message)
        with override_settings(ERP_BACKUP=raw), pytest.raises(ConfigurationError) as caught:
            get_config()
        assert found == str(caught.value)

    @pytest.mark.parametrize("raw", [None, [], "x", 5])
    def test_no_dictionary_at_all__said(self, raw: object) -> None:
        """The setting itself may be nonsense."""
        with override_settings(ERP_BACKUP=raw):
            assert ["ERP_BACKUP is not a dictionary."] == [str(problem) for problem in current_problems()]

    def test_absent__all_defaults(self) -> None:
        """Two apps in INSTALLED_APPS are all that is needed."""
        with override_settings():
            del settings.ERP_BACKUP

            assert [] == current_problems()
            assert STATE == get_config().state_dir

    def test_error__is_djangos_and_ours(self) -> None:
        """Whoever catches either kind catches it."""
        with override_settings(ERP_BACKUP={"JOBS": 0}), pytest.raises(UsageError) as caught:
            get_config()

        assert 2 == caught.value.exit_code


class TestDjangoDbbackup:
    """The settings of django-dbbackup, where ours are silent."""

    @pytest.fixture(autouse=True)
    def _two_databases(self) -> Any:
        """DATABASES has two aliases."""
        before = settings.DATABASES
        settings.DATABASES = DATABASES
        get_config.cache_clear()
        yield
        settings.DATABASES = before
        get_config.cache_clear()

    def test_nothing_said__all_databases(self) -> None:
        """By default, everything is backed up."""
        assert ["default", "archive"] == [database.alias for database in config_with().databases]

    @pytest.mark.parametrize("given", [["archive"], ("archive",), {"archive"}])
    def test_databases__honoured(self, given: Any) -> None:
        """DBBACKUP_DATABASES says which."""
        with override_settings(DBBACKUP_DATABASES=given):
            assert ["archive"] == [database.alias for database in config_with().databases]

    def test_our_databases__come_first(self) -> None:
        """Where ours says something, the other is silent."""
        with override_settings(DBBACKUP_DATABASES=["archive"]):
            assert ["default"] == [d.alias for d in config_with(DATABASES={"default": {}}).databases]

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("archive", "DBBACKUP_DATABASES is 'archive', not a list."),
            (
                ["archives"],
                "DBBACKUP_DATABASES names 'archives', which DATABASES does not have. Did you mean 'archive'?",
            ),
            ([], "DBBACKUP_DATABASES names no database."),
        ],
    )
    def test_databases_that_mean_nothing__said(self, given: Any, message: str) -> None:
        """Their settings are looked at as ours are."""
        with override_settings(DBBACKUP_DATABASES=given):
            [found] = problems_with()

        assert found.startswith(message)

    def test_connectors__excluded_tables_and_schemas(self) -> None:
        """DBBACKUP_CONNECTORS says what stays out; what our own entry says comes first."""
        connectors = {"default": {"EXCLUDE": ["session"], "SCHEMAS": ["erp"]}, "archive": {"CONNECTOR": None}}
        with override_settings(DBBACKUP_CONNECTORS=connectors):
            default, archive = config_with().databases
            own = config_with(DATABASES={"default": {"EXCLUDE_TABLES": []}}).databases[0]

        assert (("session",), ("erp",)) == (default.excluded_tables, default.schemas)
        assert ((), ()) == (archive.excluded_tables, archive.schemas)
        assert ((), ("erp",)) == (own.excluded_tables, own.schemas)

    def test_connectors_excluding_nothing__nothing(self) -> None:
        """django-dbbackup lets EXCLUDE be None."""
        with override_settings(DBBACKUP_CONNECTORS={"default": {"EXCLUDE": None}}):
            assert () == config_with().databases[0].excluded_tables

    def test_clean_up_keep__honoured_and_ours_comes_first(self) -> None:
        """DBBACKUP_CLEANUP_KEEP is how many stay."""
        with override_settings(DBBACKUP_CLEANUP_KEEP=4):
            assert 4 == config_with().keep_last
            assert 4 == config_with(RETENTION={}).keep_last
            assert 2 == config_with(RETENTION={"keep_last": 2}).keep_last

    def test_clean_up_keep_of_nothing__said(self) -> None:
        """To keep nothing is no retention."""
        with override_settings(DBBACKUP_CLEANUP_KEEP=0):
            [found] = problems_with()

        assert found.startswith("DBBACKUP_CLEANUP_KEEP is 0.")

    def test_project_without_a_database__said(self) -> None:
        """Where there is nothing to back up, nothing can be."""
        settings.DATABASES = {"default": {"ENGINE": "django.db.backends.dummy"}}
        get_config.cache_clear()

        assert problems_with()[0].startswith("DATABASES names no database.")

    def test_host_name__honoured(self) -> None:
        """DBBACKUP_HOSTNAME is the host's name in manifests; else it is the machine's."""
        with override_settings(DBBACKUP_HOSTNAME="erp-1"):
            assert "erp-1" == config_with().host
        assert socket.gethostname() == config_with().host

    def test_storage__the_default_location(self) -> None:
        """STORAGES["dbbackup"], where there is one, is the location."""
        storage = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
        with override_settings(STORAGES={**settings.STORAGES, "dbbackup": storage}):
            assert (LocationConfig(alias="local", storage="dbbackup"),) == config_with().locations
            assert (LocationConfig(alias="local", storage="dbbackup"),) == config_with(LOCATIONS={}).locations
            assert ["backups"] == [location.alias for location in config_with(LOCATIONS={"backups": {}}).locations]


class TestCache:
    """Parsed once, and again when something has changed."""

    def test_same_settings__parsed_once(self) -> None:
        """Nobody pays for it twice."""
        assert get_config() is get_config()

    @pytest.mark.parametrize(
        ("setting", "value", "field", "expected"),
        [
            ("ERP_BACKUP", {"JOBS": 9}, "jobs", 9),
            ("DBBACKUP_CLEANUP_KEEP", 9, "keep_last", 9),
            ("BASE_DIR", Path("/elsewhere"), "state_dir", Path("/elsewhere/.erp_backup")),
        ],
    )
    def test_setting_changed__seen_at_once_and_only_then(
        self, setting: str, value: Any, field: str, expected: Any
    ) -> None:
        """override_settings works, in both directions."""
        with override_settings(ERP_BACKUP={}):
            before = getattr(get_config(), field)
            with override_settings(**{setting: value}):
                inside = getattr(get_config(), field)

            assert expected == inside
            assert before == getattr(get_config(), field)

    def test_error__not_remembered(self) -> None:
        """Settings that were corrected are right."""
        with override_settings(ERP_BACKUP={"JOBS": 0}), pytest.raises(ConfigurationError):
            get_config()

        assert get_config().jobs


class TestLookups:
    """Databases and locations by alias."""

    def test_configured_database__its_options(self) -> None:
        """What is said of an alias is found."""
        found = config_with(DATABASES={"default": {"PREFIX": "shop"}})

        assert "shop" == found.database("default").prefix

    def test_unconfigured_database__no_options(self) -> None:
        """A database that is not backed up by default can be named."""
        with override_settings(ERP_BACKUP={}):
            config = get_config()
        missing = Config(**{field: getattr(config, field) for field in Config.__slots__} | {"databases": ()})

        assert DatabaseConfig(alias="default") == missing.database("default")

    def test_unknown_database__nearest_known_one(self) -> None:
        """An alias that Django does not know is an error with a hint."""
        with pytest.raises(ConfigurationError, match="Did you mean 'default'"):
            config_with().database("defalt")

    def test_location__found_or_nearest_known_one(self) -> None:
        """So it is with locations."""
        config = config_with(LOCATIONS={"backups": {}})

        assert "backups" == config.location("backups").alias
        with pytest.raises(ConfigurationError, match="Did you mean 'backups'"):
            config.location("backup")
