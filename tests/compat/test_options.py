"""Every option of django-dbbackup's commands is taken by ours, and means what it says or is refused in words."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.compat import peer, test_restore_options
from tests.compat.conftest import MakeProject
from tests.support.host import Host

OPTIONS = peer.options()
# The test of each option's meaning, here: an option that is new in django-dbbackup has none yet.
MEANINGS = {
    "dbbackup": {
        "--noinput": "test_noinput__asks_nothing",
        "--quiet": "test_quiet__says_nothing",
        "--clean": "TestClean",
        "--database": "test_database__only_those_named",
        "--servername": "test_servername__stands_in_the_name",
        "--compress": "test_compress__compresses_whatever_the_settings_say",
        "--encrypt": "test_encrypt__encrypts_or_fails",
        "--output-filename": "test_output_filename__is_the_name",
        "--output-path": "TestOutputPath",
        "--exclude-tables": "test_exclude_tables__their_rows_stay_out",
        "--schema": "test_schema__only_those_named",
    },
    "dbrestore": {
        "--noinput": "test_restore_noinput__asks_nobody",
        "--quiet": "test_restore_quiet__says_nothing",
        "--database": "TestRestoreDatabase",
        "--input-filename": "test_restore_input_filename__that_one",
        "--input-path": "TestRestoreInputPath",
        "--servername": "test_restore_servername__only_those_with_it",
        "--decrypt": "test_restore_decrypt__the_key_is_in_the_settings",
        "--passphrase": "test_restore_passphrase__refused_and_not_repeated",
        "--uncompress": "test_restore_uncompress__done_whenever_it_is_needed",
        "--schema": "TestRestoreSchema",
        "--no-drop": "test_restore_no_drop__nothing_ever_is",
        "--pg-options": "test_restore_pg_options__harmless_or_refused",
    },
    "listbackups": {
        "--noinput": "test_noinput__asks_nothing",
        "--quiet": "test_quiet__no_head",
        "--database": "TestListing",
        "--compressed": "TestListing",
        "--not-compressed": "TestListing",
        "--encrypted": "TestListing",
        "--not-encrypted": "TestListing",
        "--content-type": "test_content_type__media_are_listed_as_ever",
    },
}
MANIFEST = ".manifest.json"


def archives(folder: Path) -> list[str]:
    """Return the names of the archives in a folder."""
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(name.removesuffix(MANIFEST) for name in names if name.endswith(MANIFEST))


def manifest_of(host: Host) -> dict[str, Any]:
    """Return the manifest of the only backup there is."""
    [name] = archives(host.backups_dir)
    return dict(json.loads((host.backups_dir / f"{name}{MANIFEST}").read_text()))


def backed_up(host: Host, *options: str) -> dict[str, Any]:
    """Make a backup and return what the command says of it."""
    [backup] = host.manage("dbbackup", "--json", *options).json()["backups"]
    return dict(backup)


class TestAccepted:
    """Our parsers take what its parsers take."""

    def test_options__each_has_a_test(self) -> None:
        """An option that a new version adds is missing here, and fails this test."""
        declared = {command: {o.flags[-1] for o in OPTIONS if o.command == command} for command in peer.COMMANDS}

        assert {command: set(tests) for command, tests in MEANINGS.items()} == declared
        assert {test for tests in MEANINGS.values() for test in tests.values()} <= set(globals()) | set(
            vars(test_restore_options)
        )

    @pytest.mark.parametrize("option", OPTIONS, ids=str)
    def test_option__is_understood_as_there(self, option: peer.Option) -> None:
        """Each spelling gives the same value under the same name, so that `call_command` works too."""
        value = ["db"] if option.takes_value else []
        theirs, ours = (peer.parser_of(package, option.command) for package in ("dbbackup", "erp_backup"))
        [action] = [found for found in theirs._actions if option.flags[-1] in found.option_strings]

        for flag in option.flags:
            arguments = [flag, *value] * (2 if option.declared.get("action") == "append" else 1)
            expected, actual = theirs.parse_args(arguments), ours.parse_args(arguments)
            assert getattr(expected, action.dest) == getattr(actual, action.dest)

    @pytest.mark.parametrize("command", peer.COMMANDS)
    def test_call_command__takes_its_names(self, host: Host, command: str) -> None:
        """What a task of the host's calls with all of its defaults, spelt out, still runs."""
        theirs = peer.parser_of("dbbackup", command)
        names = {
            action.dest for option in OPTIONS for action in theirs._actions if action.option_strings[-1] in option.flags
        }
        given = {name: theirs.get_default(name) for name in sorted(names)}
        if command == "dbrestore":
            backed_up(host)
            given["interactive"] = False  # nobody is there to be asked
        code = f"from django.core.management import call_command; call_command({command!r}, **{given!r})"

        assert 0 == host.manage("shell", "--no-imports", "-c", code).returncode


def test_noinput__asks_nothing(host: Host) -> None:
    """Standard input is empty, and nobody misses it."""
    host.manage("dbbackup", "--noinput")

    assert 0 == host.manage("listbackups", "--noinput").returncode


def test_quiet__says_nothing(host: Host) -> None:
    """A good run is silent on both streams; a bad one is not."""
    result = host.manage("dbbackup", "-q")
    failed = host.manage("dbbackup", "-q", "-d", "nope", check=False)

    assert ("", "") == (result.stdout, result.stderr)
    assert 2 == failed.returncode
    assert "There is no database 'nope'" in failed.stderr


def test_quiet__no_head(host: Host) -> None:
    """Only the backups are listed; none are no line at all."""
    nothing = host.manage("listbackups", "-q").stdout
    name = backed_up(host)["id"]
    lines = host.manage("listbackups", "-q").stdout.splitlines()

    assert "" == nothing
    assert [name] == [line.split()[0] for line in lines]


def test_database__only_those_named(project: MakeProject, tmp_path: Path) -> None:
    """Several are separated by commas, blanks and empty ones do not matter; one named twice is backed up once."""
    files = {alias: str(tmp_path / f"{alias}.db") for alias in ("default", "second", "third")}
    databases = {alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": file} for alias, file in files.items()}
    host = project(databases=databases)
    for alias in ("second", "third"):
        host.manage("migrate", "-v0", "--database", alias)

    said = host.manage("dbbackup", "--json", "-d", " second ,,third,second").json()

    assert ["second", "third"] == [backup["database"] for backup in said["backups"]]


def test_servername__stands_in_the_name(host: Host) -> None:
    """The name of the server is a part of the archive's; blanks and dots are not."""
    backup = backed_up(host, "-s", "web-1.example")

    assert backup["archive"]["name"].startswith("app_web_1_example_full_")


def test_compress__compresses_whatever_the_settings_say(project: MakeProject) -> None:
    """Archives are compressed anyway; where the settings say that they are not, `-z` has the last word."""
    host = project("ERP_BACKUP = {'COMPRESSION': {'METHOD': 'none'}}")

    assert [] == backed_up(host)["archive"]["codecs"]
    assert ["zstd"] == backed_up(host, "-z")["archive"]["codecs"]


def test_compress__gzip_where_the_settings_say_so(project: MakeProject) -> None:
    """`METHOD` decides with what; `gunzip` reads it."""
    host = project("ERP_BACKUP = {'COMPRESSION': {'METHOD': 'gzip'}}")
    [path] = backed_up(host, "-z")["paths"]

    content = subprocess.run(["gunzip", "--stdout", path], capture_output=True, check=True).stdout

    assert path.endswith(".sqlite3.gz")
    assert content.startswith(b"SQLite format 3")


def test_encrypt__encrypts_or_fails(project: MakeProject) -> None:
    """With nobody to encrypt to there is no backup; `GPG_RECIPIENT` is nobody."""
    host = project("DBBACKUP_GPG_RECIPIENT = 'backup@example.com'")
    refused = host.manage("dbbackup", "-e", check=False)
    recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
    with (host.folder / "site" / "hostsite" / "settings.py").open("a") as settings:
        settings.write(f"ERP_BACKUP = {{'ENCRYPTION': {{'RECIPIENTS': [{recipient!r}]}}}}\n")

    assert 2 == refused.returncode
    assert "ERP_BACKUP['ENCRYPTION']['RECIPIENTS']" in refused.stderr
    assert ["zstd", "age"] == backed_up(host, "-e")["archive"]["codecs"]


def test_output_filename__is_the_name(host: Host) -> None:
    """The name is taken as it is, once."""
    backup = backed_up(host, "-o", "nightly.sqlite3")
    again = host.manage("dbbackup", "-o", "nightly.sqlite3", check=False)

    assert "nightly.sqlite3" == backup["archive"]["name"]
    assert ["nightly.sqlite3"] == archives(host.backups_dir)
    assert 30 == again.returncode


@pytest.mark.parametrize("option", [("-o", "one.sqlite3"), ("-O", "/tmp/one.sqlite3")])
def test_one_name_for_two_databases__refused(project: MakeProject, tmp_path: Path, option: tuple[str, str]) -> None:
    """The second backup would stand in the first one's place."""
    entry = {"ENGINE": "django.db.backends.sqlite3"}
    host = project(databases={alias: {**entry, "NAME": str(tmp_path / alias)} for alias in ("default", "second")})

    result = host.manage("dbbackup", *option, check=False)

    assert 2 == result.returncode
    assert "One name cannot be given to the backups of 2 databases" in result.stderr
    assert [] == archives(host.backups_dir)


class TestOutputPath:
    """`-O`: a file's path, as there, or a folder's."""

    def test_file__is_the_archive(self, host: Host, tmp_path: Path) -> None:
        """The path is the archive's, the locations get nothing; the file is private whatever the umask."""
        path = tmp_path / "elsewhere" / "today.psql.bin"

        backup = backed_up(host, "-O", str(path))

        assert [str(path)] == backup["paths"]
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        assert [path.name] == archives(path.parent)
        assert [] == archives(host.backups_dir)

    @pytest.mark.parametrize("text", ["new", "new.d/", "there.d"])
    def test_folder__gets_a_generated_name(self, host: Host, tmp_path: Path, text: str) -> None:
        """A folder is there, or ends with a slash, or has no suffix; it is made where it is missing."""
        (tmp_path / "there.d").mkdir()

        backup = backed_up(host, "-O", f"{tmp_path}/{text}")

        assert [backup["archive"]["name"]] == archives(tmp_path / text)
        assert backup["archive"]["name"].startswith(backup["id"])

    def test_folder_and_name__both(self, host: Host, tmp_path: Path) -> None:
        """`-o` names the file in the folder."""
        backed_up(host, "-O", str(tmp_path / "new"), "-o", "mine.sqlite3")

        assert ["mine.sqlite3"] == archives(tmp_path / "new")

    def test_two_names__refused(self, host: Host, tmp_path: Path) -> None:
        """Which one is meant, nobody can say."""
        result = host.manage("dbbackup", "-O", str(tmp_path / "a.dump"), "-o", "b.dump", check=False)

        assert 2 == result.returncode
        assert "'a.dump' and 'b.dump'" in result.stderr

    def test_existing_file__is_not_overwritten(self, host: Host, tmp_path: Path) -> None:
        """What stands there may be somebody's last backup."""
        path = tmp_path / "today.dump"
        path.write_text("precious")

        result = host.manage("dbbackup", "-O", str(path), check=False)

        assert 30 == result.returncode
        assert "precious" == path.read_text()

    def test_s3__refused_in_words(self, host: Host) -> None:
        """Such a place is a location's business."""
        result = host.manage("dbbackup", "-O", "s3://bucket/path/", check=False)

        assert 2 == result.returncode
        assert "Configure such a place as a location" in result.stderr

    def test_verifications_afterwards__no_false_alarm(self, host: Host, tmp_path: Path) -> None:
        """It is no part of the locations, so nothing is missing there, and their chain goes on without it."""
        first = backed_up(host)
        backed_up(host, "-O", f"{tmp_path}/new/")
        between = host.manage("verifybackup", "-q", check=False)
        second = backed_up(host)

        assert 0 == between.returncode, str(between)
        assert [1, 2] == [first["number"], second["number"]]
        assert 0 == host.manage("verifybackup", "-q", "--all", check=False).returncode

    def test_message__does_not_promise_what_is_not_there(self, host: Host, tmp_path: Path) -> None:
        """No command finds it there, so none is recommended."""
        said = host.manage("dbbackup", "-O", str(tmp_path / "new")).stdout

        assert "It is in no location" in said
        assert "Prove it" not in said


def test_exclude_tables__their_rows_stay_out(host: Host) -> None:
    """The tables stay, empty; with SQLite too, whose connector there ignores it."""
    backed_up(host, "-x", "django_migrations, auth_*")
    manifest = manifest_of(host)
    rows = {table["name"]: table["rows"] for table in manifest["figures"]["tables"]}
    host.manage("verifybackup", "-q")

    assert 0 == rows["django_migrations"] == rows["auth_permission"]
    assert 0 < rows["django_content_type"]
    assert ["django_migrations", "auth_*"] == manifest["excluded_tables"]


def test_schema__only_those_named(project: MakeProject, pg_database: dict[str, Any], postgres: Any) -> None:
    """May be given several times; PostgreSQL only; one that does not exist is named."""
    host = project(databases={"default": pg_database})
    with postgres.connect(pg_database["NAME"], user=pg_database["USER"]) as connection:
        connection.execute("CREATE SCHEMA a; CREATE TABLE a.t (x int); CREATE SCHEMA b; CREATE TABLE b.t (x int)")

    backed_up(host, "-n", "a", "--schema", "b")
    missing = host.manage("dbbackup", "-n", "nope", check=False)
    manifest = manifest_of(host)

    assert [("a", "t"), ("b", "t")] == [(table["schema"], table["name"]) for table in manifest["figures"]["tables"]]
    assert ["a", "b"] == manifest["schemas"]
    assert 9 == missing.returncode
    assert "No schema is called 'nope'" in missing.stderr


def test_schema__refused_on_sqlite(host: Host) -> None:
    """A backup of everything is not what was asked for."""
    result = host.manage("dbbackup", "-n", "public", check=False)

    assert 2 == result.returncode
    assert "SQLite has no schemas" in result.stderr


class TestClean:
    """`-c` keeps as many as it is told, and proof."""

    def test_keep__the_newest_of_each_database(self, project: MakeProject) -> None:
        """`DBBACKUP_CLEANUP_KEEP` stay; django-dbbackup's own files are not ours to delete."""
        host = project("DBBACKUP_CLEANUP_KEEP = 2")
        old = host.backups_dir / "default-web-2020-01-01-000000.sqlite3"
        old.parent.mkdir()
        old.write_text("an archive of django-dbbackup's")
        names = [backed_up(host)["archive"]["name"] for _ in range(3)]

        names.append(backed_up(host, "-c")["archive"]["name"])

        assert sorted(names[-2:]) == archives(host.backups_dir)
        assert old.exists()

    @pytest.mark.parametrize("level", ["stored", "models"])
    def test_newest_verified__stays_whatever_its_age(self, project: MakeProject, level: str) -> None:
        """Of four backups, the first is proven: with the newest it is all that stays."""
        host = project("DBBACKUP_CLEANUP_KEEP = 1")
        proven = backed_up(host)
        host.manage("verifybackup", "-q", "--level", level, proven["id"])
        for _ in range(2):
            backed_up(host)

        newest = backed_up(host, "-c")

        assert sorted([proven["archive"]["name"], newest["archive"]["name"]]) == archives(host.backups_dir)

    def test_other_database_of_similar_name__is_left_alone(self, project: MakeProject, tmp_path: Path) -> None:
        """`default` is a part of `default_archive`; its backups are not."""
        entry = {"ENGINE": "django.db.backends.sqlite3"}
        databases = {
            alias: {**entry, "NAME": str(tmp_path / f"{alias}.db")} for alias in ("default", "default_archive")
        }
        host = project("DBBACKUP_CLEANUP_KEEP = 1", databases=databases)
        host.manage("migrate", "-v0", "--database", "default_archive")
        others = [backed_up(host, "-d", "default_archive")["archive"]["name"] for _ in range(2)]

        mine = [backed_up(host, "-d", "default", "-c")["archive"]["name"] for _ in range(2)]

        assert sorted([*others, mine[-1]]) == archives(host.backups_dir)

    def test_failed_backup__deletes_nothing(self, project: MakeProject, tmp_path: Path) -> None:
        """What there is is all there is."""
        host = project("DBBACKUP_CLEANUP_KEEP = 1")
        names = [backed_up(host)["archive"]["name"] for _ in range(2)]
        (host.folder / "app.db").rename(tmp_path / "away.db")

        result = host.manage("dbbackup", "-c", check=False)

        assert 23 == result.returncode
        assert sorted(names) == archives(host.backups_dir)

    def test_what_cannot_be_deleted__partial(self, project: MakeProject, tmp_path: Path) -> None:
        """The backup is there: the run is no failure (and `backup_failed` is not sent), but not good either."""
        host = project("DBBACKUP_CLEANUP_KEEP = 1")
        first = backed_up(host)["archive"]["name"]
        # A folder in the place of the archive cannot be unlinked, by root neither.
        (host.backups_dir / first).unlink()
        (host.backups_dir / first).mkdir()

        result = host.manage("dbbackup", "-c", check=False)

        assert 3 == result.returncode, str(result)
        assert "Old backups could not be deleted" in result.stderr
        assert 2 == len(archives(host.backups_dir))


class TestListing:
    """`listbackups` shows what its filters leave."""

    @pytest.fixture
    def names(self, project: MakeProject, tmp_path: Path) -> tuple[Host, dict[str, str]]:
        """A project with one backup of each sort."""
        recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
        entry = {"ENGINE": "django.db.backends.sqlite3"}
        databases = {alias: {**entry, "NAME": str(tmp_path / f"{alias}.db")} for alias in ("default", "other")}
        plain = "ERP_BACKUP = {'COMPRESSION': {'METHOD': 'none'}}\n"
        host = project(plain, databases=databases)
        host.manage("migrate", "-v0", "--database", "other")
        made = {
            "plain": backed_up(host, "-d", "default")["id"],
            "compressed": backed_up(host, "-d", "default", "-z")["id"],
            "other": backed_up(host, "-d", "other")["id"],
        }
        with (host.folder / "site" / "hostsite" / "settings.py").open("a") as settings:
            settings.write(f"ERP_BACKUP['ENCRYPTION'] = {{'RECIPIENTS': [{recipient!r}]}}\n")
        made["encrypted"] = backed_up(host, "-d", "default", "-e")["id"]
        return host, made

    def test_filters__leave_what_they_say(self, names: tuple[Host, dict[str, str]]) -> None:
        """Each alone, and together."""
        host, made = names
        listed = {
            options: {backup["id"] for backup in host.manage("listbackups", "--json", *options).json()["backups"]}
            for options in (
                (),
                ("-z",),
                ("-Z",),
                ("-e",),
                ("-E",),
                ("-d", "other"),
                ("-d", "oth"),
                ("-Z", "-E"),
                ("-c", "db"),
            )
        }
        expected = {
            (): set(made),
            ("-z",): {"compressed"},
            ("-Z",): {"plain", "other", "encrypted"},
            ("-e",): {"encrypted"},
            ("-E",): {"plain", "compressed", "other"},
            ("-d", "other"): {"other"},
            ("-d", "oth"): set(),
            ("-Z", "-E"): {"plain", "other"},
            ("-c", "db"): set(made),
        }

        assert {options: {made[sort] for sort in sorts} for options, sorts in expected.items()} == listed


def test_content_type__media_are_listed_as_ever(host: Host) -> None:
    """What `mediabackup` has stored has no other command that lists it; old archives of databases are no media."""
    (host.folder / "media").mkdir()
    (host.folder / "media" / "scan.txt").write_text("a delivery note")
    backed_up(host)
    host.manage("mediabackup", "-q")
    [name] = [name for name in os.listdir(host.backups_dir) if name.endswith(".tar")]

    lines = host.manage("listbackups", "-c", "media", "-q").stdout.splitlines()
    data = host.manage("listbackups", "-c", "media", "--json").json()

    assert [name] == [line.split()[0] for line in lines]
    assert [name] == [entry["name"] for entry in data["media"]]
