"""A project whose `default` is empty, with no router, lost its backup to the history that could not be written."""

from __future__ import annotations

from pathlib import Path

from tests.support.host import Host


def test_history_has_no_database__backup_is_made_and_partial(tmp_path: Path) -> None:
    """The backup is there, the run says what is missing, exit 3."""
    file = tmp_path / "erp.db"
    extra = (
        f"DATABASES = {{'default': {{}}, 'erp': {{'ENGINE': 'django.db.backends.sqlite3', 'NAME': {str(file)!r}}}}}\n"
        "ERP_BACKUP['DATABASES'] = {'erp': {}}\n"
    )
    host = Host(tmp_path / "host", extra_settings=extra)
    host.manage("migrate", "--database", "erp", "-v", "0")

    result = host.manage("dbbackup", check=False)

    assert 3 == result.returncode, str(result)
    assert "The history could not be written" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert 1 == len(list(host.backups_dir.glob("*.manifest.json")))
