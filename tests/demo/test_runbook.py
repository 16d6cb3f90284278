"""What the runbook is, before anything of it runs."""

from __future__ import annotations

import hashlib

from tests.demo import runbook

# Every block that can be run, and the test file that runs it.
EXECUTED = {
    "postgresql": [
        ("Backup Commands", "Full Database Backup", "bash"),
        ("Backup Commands", "Schema-only Backup", "bash"),
        ("Backup Commands", "Data-only Backup", "bash"),
        ("Restore Commands", "Full Database Restore", "bash"),
        ("Restore Commands", "Partial Restore (specific tables)", "bash"),
        ("Verification Steps", "1. Check Database Connection", "bash"),
        ("Verification Steps", "2. Verify Table Counts", "sql"),
        ("Verification Steps", "3. Verify Key Data Integrity", "sql"),
        ("Verification Steps", "4. Test Application Connection", "bash"),
    ],
    "sqlite": [
        ("Backup Commands", "Full Database Backup", "bash"),
        ("Restore Commands", "Full Database Restore", "bash"),
        ("Verification Steps", "1. Check Database File", "bash"),
        ("Verification Steps", "2. Verify Table Counts", "sql"),
    ],
    "scripts": [
        ("Automated Backup Scripts", "Daily Backup Script (Linux/Unix)", "bash"),
        ("Automated Backup Scripts", "Backup Cron Setup", "bash"),
        ("Test Performed: January 5, 2026", "Environment: Local SQLite Development", "bash"),
    ],
    "prose": [("Emergency Contacts & Procedures", "Communication Template", "")],
}


def test_copy_of_the_runbook__is_verbatim() -> None:
    """The copy that the tests run is the business's document, byte for byte."""
    digest = hashlib.sha256(runbook.PATH.read_bytes()).hexdigest()

    assert digest == "10c6677172a4e9b3143d9659058d983fa005759f5e3f5bb2035c96e35c596712"


def test_blocks_of_the_runbook__are_all_known_to_the_tests() -> None:
    """No block of the runbook is overlooked."""
    found = [(*block.headings[-2:], block.language) for block in runbook.blocks()]

    assert [known for blocks in EXECUTED.values() for known in blocks] == found
