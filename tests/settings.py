"""Settings of the tests that run inside pytest's own process: the demo's, on a private SQLite file."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from project.settings import *  # noqa: F403 - the tests' project is the demo, with these differences
from project.settings import STORAGES

# One folder per process, so that parallel workers do not meet.
TEST_DIR = Path(tempfile.mkdtemp(prefix="erp-backup-tests-"))
atexit.register(shutil.rmtree, TEST_DIR, ignore_errors=True)

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(TEST_DIR / "app.db"),
        # A file and not memory: backups are taken of files.
        "TEST": {"NAME": str(TEST_DIR / "test.db")},
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    },
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MEDIA_ROOT = TEST_DIR / "media"
STORAGES = {
    **STORAGES,
    "backups": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": str(TEST_DIR / "backups"),
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
}
ERP_BACKUP = {"STATE_DIR": str(TEST_DIR / "state")}
