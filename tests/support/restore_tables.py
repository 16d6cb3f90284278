"""Restores tables of the default database in steps: `python -m tests.support.restore_tables BACKUP < steps.json`.

A step is {"sql": [...], "tables": [...]}: the statements are run in the live database, then the tables are restored
from the copy, which is made once. The answers are printed as JSON: a report, or an error's class, code and message.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django


def main() -> int:
    """Carry out the steps."""
    django.setup()
    from django.db import connection

    from erp_backup.core.errors import BackupError
    from erp_backup.services import beside, catalog
    from erp_backup.services.environment import build_environment
    from erp_backup.services.tables import restore_tables

    environment = build_environment()
    backup = catalog.find(catalog.group(catalog.read_all(environment)), sys.argv[1])
    engine = beside.engine_of(environment, backup)
    answers: list[dict[str, Any]] = []
    with beside.restored_beside(environment, engine, backup) as scratch:
        for step in json.load(sys.stdin):
            with connection.cursor() as cursor:
                for statement in step["sql"]:
                    cursor.execute(statement)
            connection.close()
            try:
                result = restore_tables(environment, engine, scratch, backup.manifest, step["tables"])
            except BackupError as error:
                answers.append({"error": type(error).__name__, "code": error.exit_code, "message": str(error)})
            else:
                answers.append(result.report)
    json.dump(answers, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
