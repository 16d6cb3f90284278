"""django-dbbackup's settings: honoured, or refused in words, never read as something else."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from erp_backup import conf, connectors
from erp_backup.exceptions import ConfigurationError
from tests.compat.conftest import MakeProject
from tests.support.postgres import Cluster
from tests.support.programs import fake_program

POSTGRESQL = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "erp",
    "USER": "erp",
    "PASSWORD": "canary-pw",
    "HOST": "db",
}
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": "erp.db"}
THREE = dict.fromkeys(("default", "stock", "archive"), SQLITE)
PG = "dbbackup.db.postgresql."
LITE = "dbbackup.db.sqlite."


@contextmanager
def given(**settings: Any) -> Iterator[None]:
    """Put settings in force; that Django's own connections do not change with DATABASES does not matter here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Overriding setting DATABASES")
        override = override_settings(**{"ERP_BACKUP": {}, **settings})
        override.enable()
    try:
        yield
    finally:
        override.disable()


def read(entry: Mapping[str, Any], *, database: Mapping[str, Any] = POSTGRESQL, **settings: Any) -> conf.Config:
    """Return our settings, where `entry` is what DBBACKUP_CONNECTORS says of the only database."""
    connector = {"DATABASES": {"default": dict(database)}, "DBBACKUP_CONNECTORS": {"default": dict(entry)}}
    with given(**connector, **settings):
        return conf.get_config()


def refusal(entry: Mapping[str, Any], **settings: Any) -> str:
    """Return why `entry` is refused."""
    with pytest.raises(ConfigurationError) as caught:
        read(entry, **settings)
    return str(caught.value)


class TestDatabases:
    """DBBACKUP_DATABASES."""

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({}, ["default", "stock", "archive"]),
            ({"DBBACKUP_DATABASES": ["stock", "archive"]}, ["stock", "archive"]),
            ({"DBBACKUP_DATABASES": ("stock",)}, ["stock"]),
            ({"DBBACKUP_DATABASES": ["stock"], "ERP_BACKUP": {"DATABASES": {"archive": {}}}}, ["archive"]),
        ],
    )
    def test_aliases__ours_then_theirs_then_all(self, settings: dict[str, Any], expected: list[str]) -> None:
        """What is backed up when no alias is named."""
        with given(DATABASES=THREE, **settings):
            assert expected == [database.alias for database in conf.get_config().databases]

    def test_empty_default__is_no_database(self) -> None:
        """Django asks for a `default`, be it empty, where every model lives elsewhere."""
        with given(DATABASES={"default": {}, "users": SQLITE}):
            assert ["users"] == [database.alias for database in conf.get_config().databases]

    @pytest.mark.parametrize(
        ("aliases", "text"), [(["stok"], "Did you mean 'stock'?"), ("stock", "Write ['stock']"), ([], "names no")]
    )
    def test_nonsense__refused(self, aliases: object, text: str) -> None:
        """A wrong alias, a string instead of a list, nothing at all."""
        with given(DATABASES=THREE, DBBACKUP_DATABASES=aliases):
            problems = [str(problem) for problem in conf.current_problems()]

        assert 1 == len(problems)
        assert "DBBACKUP_DATABASES" in problems[0]
        assert text in problems[0]


class TestConnectors:
    """DBBACKUP_CONNECTORS."""

    def test_what_to_leave_out__is_honoured(self) -> None:
        """EXCLUDE and SCHEMAS; our own keys win, even with nothing in them."""
        entry = {"EXCLUDE": ["audit_log"], "SCHEMAS": ["public", "stock"]}
        ours = {"DATABASES": {"default": {"EXCLUDE_TABLES": [], "SCHEMAS": ["sales"]}}}

        theirs, chosen = read(entry).databases[0], read(entry, ERP_BACKUP=ours).databases[0]
        assert (("audit_log",), ("public", "stock")) == (theirs.excluded_tables, theirs.schemas)
        assert ((), ("sales",)) == (chosen.excluded_tables, chosen.schemas)

    def test_alias_named_on_the_command_line__has_its_entry_too(self) -> None:
        """Also one that is not among those that are backed up by default."""
        databases = {"default": SQLITE, "archive": SQLITE}
        entry = {"archive": {"EXCLUDE": ["audit_log"]}}
        with given(
            DATABASES=databases,
            DBBACKUP_CONNECTORS=entry,
            DBBACKUP_DATABASES=["default"],
        ):
            assert ("audit_log",) == conf.get_config().database("archive").excluded_tables

    @pytest.mark.parametrize(
        ("connector", "expected"),
        [
            (PG + "PgDumpBinaryConnector", "custom"),
            (PG + "PgDumpConnector", "plain"),
            (PG + "PgDumpGisConnector", "plain"),
            (LITE + "SqliteBackupConnector", "sqlite3"),
            (LITE + "SqliteCPConnector", "sqlite3"),
            (LITE + "SqliteConnector", "sql"),
        ],
    )
    def test_connector__is_a_format(self, connector: str, expected: str) -> None:
        """Its own, or that of its engine's in DBBACKUP_CONNECTOR_MAPPING; our FORMAT wins."""
        mapping = {POSTGRESQL["ENGINE"]: connector}
        ours = {"DATABASES": {"default": {"FORMAT": "mine"}}}

        assert expected == read({"CONNECTOR": connector}).databases[0].format
        assert expected == read({}, DBBACKUP_CONNECTOR_MAPPING=mapping).databases[0].format
        assert "mine" == read({"CONNECTOR": connector}, ERP_BACKUP=ours).databases[0].format

    @pytest.mark.parametrize("connector", ["dbbackup.db.django.DjangoConnector", "erp.connectors.Mine"])
    def test_connector_of_no_engine__refused_without_a_format(self, connector: str) -> None:
        """A dump by `dumpdata` or by the host's own class is no dump of ours."""
        ours = {"DATABASES": {"default": {"FORMAT": "custom"}}}

        assert connector in refusal({"CONNECTOR": connector})
        assert "custom" == read({"CONNECTOR": connector}, ERP_BACKUP=ours).databases[0].format

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            ({"DUMP_CMD": "pg_dump", "RESTORE_CMD": "pg_restore"}, []),
            ({"DUMP_CMD": "/opt/pg/bin/pg_dump"}, ["/opt/pg/bin"]),
            ({"DUMP_CMD": "/opt/pg 17/bin/pg_dump"}, None),
            ({"DUMP_CMD": "'/opt/pg 17/bin/pg_dump'"}, ["/opt/pg 17/bin"]),
            ({"RESTORE_CMD": ["/opt/pg/bin/pg_restore"], "PSQL_CMD": "/opt/psql/psql"}, ["/opt/pg/bin", "/opt/psql"]),
            ({"DUMP_CMD": "docker exec db pg_dump"}, None),
            ({"DUMP_CMD": "/opt/bin/my_dump"}, None),
            ({"RESTORE_CMD": "pg_restore --jobs=4"}, None),
        ],
    )
    def test_commands__are_folders_of_programs(self, entry: dict[str, Any], expected: list[str] | None) -> None:
        """The path of a program is; a command line is refused, because what is in it would be lost."""
        if expected is None:
            assert "PROGRAM_DIRS" in refusal(entry)
        else:
            ours = {"PROGRAM_DIRS": ["/first"]}
            assert ["/first", *expected] == [str(path) for path in read(entry, ERP_BACKUP=ours).program_dirs]

    @pytest.mark.parametrize("key", sorted(connectors.REFUSED))
    def test_what_changes_the_command__refused(self, key: str) -> None:
        """An empty one changes nothing."""
        assert f"DBBACKUP_CONNECTORS['default']['{key}']" in refusal({key: {"PGSSLMODE": "require"}})
        assert read({key: {}})

    @pytest.mark.parametrize("key", sorted(connectors.CONNECTION))
    def test_other_connection__refused_and_not_shown(self, key: str) -> None:
        """The replica would not be what is backed up. Nothing of it is repeated: it may be a password."""
        said = refusal({key: "canary-other"})
        same = POSTGRESQL.get(key)

        assert f"DBBACKUP_CONNECTORS['default']['{key}']" in said
        assert "canary" not in said
        assert read({key: same})

    @pytest.mark.parametrize("key", sorted(connectors.WITHOUT_MEANING))
    def test_what_only_its_restore_needs__no_effect(self, key: str) -> None:
        """It may stay in the settings for the sake of `dbrestore`."""
        assert read({}) == read({key: "anything"})

    def test_misspelt_key__refused(self) -> None:
        """There it would have no effect, silently."""
        assert "Did you mean 'EXCLUDE'?" in refusal({"EXLCUDE": ["audit_log"]})

    def test_problem__is_said_once(self) -> None:
        """However many fields it spoils."""
        with given(DATABASES={"default": POSTGRESQL}, DBBACKUP_CONNECTORS={"default": {"ENV": {"A": "b"}}}):
            assert 1 == len(conf.current_problems())

    def test_refusal__by_check_and_by_command(self, project: MakeProject) -> None:
        """Both say it, with the documented id and code; nothing is backed up."""
        host = project("DBBACKUP_CONNECTORS = {'default': {'HOST': 'replica'}}")

        checked, ran = host.manage("check", check=False), host.manage("dbbackup", check=False)

        assert 1 == checked.returncode
        assert "(erp_backup.E002) DBBACKUP_CONNECTORS['default']['HOST']" in checked.stderr
        assert 2 == ran.returncode
        assert "DBBACKUP_CONNECTORS['default']['HOST']" in ran.stderr
        assert not host.backups_dir.exists()

    def test_all_honoured_keys__through_a_real_backup(
        self, project: MakeProject, pg_database: dict[str, Any], postgres: Cluster, tmp_path: Path
    ) -> None:
        """The program that is named makes the dump, in the connector's format, without the rows excluded."""
        body = 'touch "$(dirname "$0")/was here"; exec "$REAL" "$@"'
        programs = fake_program(tmp_path / "bin", "pg_dump", postgres.bin_dir / "pg_dump", body)
        entry = {
            "CONNECTOR": PG + "PgDumpConnector",
            "DUMP_CMD": str(programs / "pg_dump"),
            "RESTORE_CMD": str(postgres.bin_dir / "psql"),
            "EXCLUDE": ["auth_permission"],
            "SINGLE_TRANSACTION": True,
        }
        host = project(f"DBBACKUP_CONNECTORS = {{'default': {entry!r}}}", databases={"default": pg_database})

        [backup] = host.manage("dbbackup", "--json").json()["backups"]
        host.manage("verifybackup", "-q")

        assert (programs / "was here").exists()
        assert "plain" == backup["format"]
        manifest = json.loads(Path(f"{backup['paths'][0]}.manifest.json").read_text())
        assert ["auth_permission"] == manifest["excluded_tables"]


class TestOthers:
    """DBBACKUP_HOSTNAME, DBBACKUP_CLEANUP_KEEP, STORAGES["dbbackup"], DBBACKUP_STORAGE."""

    def test_hostname__stands_in_manifest_and_history(self, project: MakeProject) -> None:
        """It names the machine, where the real name says nothing."""
        host = project("DBBACKUP_HOSTNAME = 'erp-production'")
        host.manage("dbbackup", "-q")
        [path] = host.backups_dir.glob("*.manifest.json")
        rows = json.loads(host.manage("dumpdata", "erp_backup.backup").stdout)

        assert "erp-production" == json.loads(path.read_text())["host"]
        assert ["erp-production"] == [row["fields"]["host"] for row in rows]

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            ({}, 10),
            ({"DBBACKUP_CLEANUP_KEEP": 3}, 3),
            ({"DBBACKUP_CLEANUP_KEEP": 3, "ERP_BACKUP": {"RETENTION": {"keep_last": 5}}}, 5),
        ],
    )
    def test_cleanup_keep__is_keep_last(self, settings: dict[str, Any], expected: int) -> None:
        """Ours wins; ten are kept by default, there and here."""
        assert expected == read({}, **settings).keep_last

    def test_cleanup_keep_of_nothing__refused(self) -> None:
        """There, 0 deletes the backup that was just made."""
        assert "DBBACKUP_CLEANUP_KEEP is 0" in refusal({}, DBBACKUP_CLEANUP_KEEP=0)

    def test_keep_filter__nothing_is_deleted(self, project: MakeProject) -> None:
        """Whatever it protects stays, and the run says that it has not cleaned up."""
        host = project("DBBACKUP_CLEANUP_KEEP = 1\nDBBACKUP_CLEANUP_KEEP_FILTER = lambda name: '-01-' in name")
        host.manage("dbbackup", "-q")

        result = host.manage("dbbackup", "-q", "-c", check=False)

        assert 3 == result.returncode
        assert "DBBACKUP_CLEANUP_KEEP_FILTER" in result.stderr
        assert 2 == len(list(host.backups_dir.glob("*.manifest.json")))

    def test_storage__is_the_default_location(self, project: MakeProject) -> None:
        """Archive and manifest are there, private, and nothing is in the state folder or in the media."""
        host = project()
        host.manage("dbbackup", "-q")

        modes = {path.suffix: path.stat().st_mode & 0o777 for path in host.backups_dir.iterdir()}
        assert {".zst": 0o600, ".json": 0o600} == modes
        assert not (host.folder / "site" / ".erp_backup" / "backups").exists()
        assert not (host.folder / "media").exists()

    def test_other_storage__refused_in_words(self, project: MakeProject) -> None:
        """One that is no folder, before anything is backed up to somewhere else."""
        host = project("STORAGES['dbbackup'] = {'BACKEND': 'django.core.files.storage.InMemoryStorage'}")

        result = host.manage("dbbackup", check=False)

        assert 2 == result.returncode
        assert "InMemoryStorage, which cannot keep archives" in result.stderr
        assert "erp_backup.E003" in host.manage("check", check=False).stderr

    def test_storage_of_old__refused(self) -> None:
        """Else backups would go to a folder of this machine; who says where they go may keep it."""
        old = {"DBBACKUP_STORAGE": "storages.backends.s3.S3Storage"}
        ours = {"LOCATIONS": {"local": {"STORAGE": "default"}}}

        assert "STORAGES['dbbackup']" in refusal({}, **old)
        assert ["default"] == [location.storage for location in read({}, ERP_BACKUP=ours, **old).locations]

    def test_without_effect__changes_no_setting_of_ours(self) -> None:
        """What is said to have no effect has none, and is no error."""
        settings = {
            "DBBACKUP_FILENAME_TEMPLATE": "{datetime}.{extension}",
            "DBBACKUP_DATE_FORMAT": "%Y",
            "DBBACKUP_BACKUP_METADATA_SETTER": "erp.metadata.setter",
            "DBBACKUP_RESTORE_METADATA_VALIDATOR": "erp.metadata.validator",
            "DBBACKUP_SEND_EMAIL": True,
            "DBBACKUP_ADMIN": [("A", "a@example.com")],
            "DBBACKUP_SERVER_EMAIL": "a@example.com",
            "DBBACKUP_EMAIL_SUBJECT_PREFIX": "[a]",
            "DBBACKUP_TMP_DIR": os.devnull,
            "DBBACKUP_TMP_FILE_MAX_SIZE": 1,
            "DBBACKUP_TMP_FILE_READ_SIZE": 1,
            "DBBACKUP_GPG_RECIPIENT": "a@example.com",
            "DBBACKUP_GPG_ALWAYS_TRUST": True,
            "DBBACKUP_MEDIA_PATH": os.devnull,
            "DBBACKUP_MEDIA_FILENAME_TEMPLATE": "{datetime}",
            "DBBACKUP_CLEANUP_KEEP_MEDIA": 1,
        }

        assert read({}) == read({}, **settings)
