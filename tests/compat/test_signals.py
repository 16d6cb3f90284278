"""Receivers that were written for django-dbbackup are called with what they know."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.compat.conftest import MakeProject
from tests.support.host import Host

# As its documentation shows them, and with everything that its objects offer.
RECEIVERS = """
    import json
    from dbbackup.management.commands.dbbackup import Command
    from dbbackup.management.commands.dbrestore import Command as RestoreCommand
    from dbbackup.signals import post_backup, post_restore, pre_backup, pre_restore
    from django.apps import AppConfig
    from django.conf import settings

    def note(**facts):
        with open(settings.NOTES, "a") as notes:
            notes.write(json.dumps(facts) + "\\n")

    def begun(sender, database, connector, servername, **kwargs):
        note(
            signal="pre", sender=sender.__module__, name=str(database["NAME"]), alias=connector.database_name,
            connector=type(connector).__name__, server=servername, more=sorted(kwargs),
        )

    def done(sender, database, connector, servername, filename, storage, **kwargs):
        with storage.read_file(filename) as file:
            size = len(file.read())
        note(
            signal="post", sender=sender.__module__, name=str(database["NAME"]), alias=connector.database_name,
            server=servername, filename=filename, size=size, storage=storage.name, more=sorted(kwargs),
        )

    def restoring(sender, database, database_name, filename, servername, storage, **kwargs):
        note(
            signal="pre_restore", sender=sender.__module__, name=str(database["NAME"]), alias=database_name,
            server=servername, filename=filename, size=len(storage.read_file(filename).read()), more=sorted(kwargs),
        )

    def restored(sender, database, database_name, filename, servername, storage, connector, **kwargs):
        with storage.read_file(filename) as file:
            size = len(file.read())
        note(
            signal="post_restore", sender=sender.__module__, name=str(database["NAME"]), alias=database_name,
            server=servername, filename=filename, size=size, connector=type(connector).__name__, more=sorted(kwargs),
        )

    def own_restored(sender, result, **kwargs):
        note(signal="restored", backup=result.backup, target=str(result.target))

    def own(sender, result, **kwargs):
        note(signal="taken", filename=result.manifest.archive.name)

    def own_failed(sender, database, error, **kwargs):
        note(signal="failed", alias=database, code=error.exit_code)

    def raises(**kwargs):
        raise LookupError("canary: this text may hold anything")

    class ShopConfig(AppConfig):
        name = "shop"

        def ready(self):
            from erp_backup import signals
            if settings.RAISES:
                pre_backup.connect(raises)
                post_backup.connect(raises)
                signals.backup_taken.connect(raises)
                pre_restore.connect(raises)
                post_restore.connect(raises)
                signals.backup_restored.connect(raises)
            pre_backup.connect(begun)
            post_backup.connect(done, sender=Command)
            pre_restore.connect(restoring, sender=RestoreCommand)
            post_restore.connect(restored, sender=RestoreCommand)
            signals.backup_restored.connect(own_restored)
            signals.backup_taken.connect(own)
            signals.backup_failed.connect(own_failed)
"""


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Where the receivers write what they got."""
    return tmp_path / "notes"


def with_receivers(project: MakeProject, notes: Path, settings: str = "", *, raises: bool = False, **more: Any) -> Host:
    """Return a project that listens."""
    host = project(f"NOTES = {str(notes)!r}\nRAISES = {raises}\n{settings}", **more)
    (host.folder / "site" / "shop" / "apps.py").write_text(textwrap.dedent(RECEIVERS))
    return host


def read(notes: Path) -> list[dict[str, Any]]:
    """Return what the receivers got, in order."""
    return [json.loads(line) for line in notes.read_text().splitlines()]


def test_receivers__get_their_arguments(project: MakeProject, notes: Path) -> None:
    """Before and after, with objects of the classes they know; the archive can be read through the storage."""
    host = with_receivers(project, notes)
    [backup] = host.manage("dbbackup", "--json", "-s", "web-1").json()["backups"]

    common = {
        "sender": "dbbackup.management.commands.dbbackup",
        "name": str(host.folder / "app.db"),
        "alias": "default",
    }
    name, size = backup["archive"]["name"], backup["archive"]["size"]
    assert [
        {**common, "signal": "pre", "connector": "SqliteBackupConnector", "server": "web-1", "more": ["signal"]},
        {
            **common,
            "signal": "post",
            "server": "web-1",
            "filename": name,
            "size": size,
            "storage": "FileSystemStorage",
            "more": ["signal"],
        },
        {"signal": "taken", "filename": name},
    ] == read(notes)


def test_receivers_of_restores__get_their_arguments(project: MakeProject, notes: Path) -> None:
    """Before the live database changes and after it has; the archive can be read through the storage."""
    host = with_receivers(project, notes)
    archive = host.manage("dbbackup", "--json", "-s", "web-1").json()["backups"][0]["archive"]
    notes.unlink()
    done = host.manage("dbrestore", "--json", "--noinput", "-s", "web-1", "--no-safety-backup").json()

    common = {
        "sender": "dbbackup.management.commands.dbrestore",
        "name": str(host.folder / "app.db"),
        "alias": "default",
        "server": "web-1",
        "filename": archive["name"],
        "size": archive["size"],
        "more": ["signal"],
    }
    assert [
        {**common, "signal": "pre_restore"},
        {**common, "signal": "post_restore", "connector": "SqliteBackupConnector"},
        {"signal": "restored", "backup": done["backup"], "target": "switch"},
    ] == read(notes)


def test_restore_beside__theirs_are_not_sent(project: MakeProject, notes: Path) -> None:
    """The live database is as it was: they know of nothing else."""
    host = with_receivers(project, notes)
    host.manage("dbbackup", "-q")
    notes.unlink()
    host.manage("dbrestore", "-q", "--noinput", "--into", "beside.db")

    assert ["restored"] == [note["signal"] for note in read(notes)]


def test_receiver_of_restores_that_raises__costs_nothing(project: MakeProject, notes: Path) -> None:
    """The state is restored, the exit code 0, and each is warned of."""
    host = with_receivers(project, notes, raises=True)
    host.manage("dbbackup", "-q")
    notes.unlink()
    result = host.manage("dbrestore", "-q", "--noinput", "--no-safety-backup")

    assert ["pre_restore", "post_restore", "restored"] == [note["signal"] for note in read(notes)]
    assert 3 == result.stderr.count("shop.apps.raises, failed: LookupError.")
    assert "canary" not in result.stderr.replace("LookupError: canary", "")


def test_folder_of_a_storage__filename_leads_there(project: MakeProject, notes: Path) -> None:
    """Where the location is a folder in its storage, the name that is given has the folder in it."""
    location = "ERP_BACKUP = {'LOCATIONS': {'far': {'STORAGE': 'dbbackup', 'PREFIX': 'daily'}}}"
    host = with_receivers(project, notes, location)
    [backup] = host.manage("dbbackup", "--json").json()["backups"]

    after = read(notes)[1]
    assert f"daily/{backup['archive']['name']}" == after["filename"]
    assert backup["archive"]["size"] == after["size"]
    assert after["server"] is None


@pytest.mark.parametrize("option", ["folder", "file.sqlite3"])
def test_output_path__storage_is_that_folder(project: MakeProject, notes: Path, tmp_path: Path, option: str) -> None:
    """Where the backup went is where the receiver finds it."""
    host = with_receivers(project, notes)
    [backup] = host.manage("dbbackup", "--json", "-O", str(tmp_path / "out" / option)).json()["backups"]

    assert backup["archive"]["size"] == read(notes)[1]["size"]


def test_receiver_that_raises__costs_nothing(project: MakeProject, notes: Path) -> None:
    """The other receivers are called, the backup is good; the warning names it and not its message."""
    host = with_receivers(project, notes, raises=True)
    result = host.manage("dbbackup", "-q")

    assert ["pre", "post", "taken"] == [note["signal"] for note in read(notes)]
    assert 3 == result.stderr.count("shop.apps.raises, failed: LookupError.")
    host.manage("verifybackup", "-q")


def test_failed_backup__no_post_backup(project: MakeProject, notes: Path) -> None:
    """As there; ours tells of the failure, once."""
    host = with_receivers(project, notes)
    (host.folder / "app.db").unlink()
    host.manage("dbbackup", check=False)

    assert [("pre", None), ("failed", 23)] == [(note["signal"], note.get("code")) for note in read(notes)]


def test_connector_that_cannot_be_made__costs_no_backup(project: MakeProject, notes: Path) -> None:
    """A host's own class, whose FORMAT says that it is not needed, may be gone."""
    settings = (
        "DBBACKUP_CONNECTORS = {'default': {'CONNECTOR': 'shop.gone.Connector'}}\n"
        "ERP_BACKUP = {'DATABASES': {'default': {'FORMAT': 'sql'}}}"
    )
    host = with_receivers(project, notes, settings)
    result = host.manage("dbbackup", "-q")

    assert "pre_backup could not be sent: ModuleNotFoundError." in result.stderr
    assert ["taken"] == [note["signal"] for note in read(notes)]


def test_without_the_other_app__no_signal_and_no_harm(project: MakeProject, notes: Path) -> None:
    """It may be taken out of INSTALLED_APPS when nothing of it is needed any more."""
    host = with_receivers(project, notes, "INSTALLED_APPS.remove('dbbackup')")
    host.manage("dbbackup", "-q")

    assert ["taken"] == [note["signal"] for note in read(notes)]
