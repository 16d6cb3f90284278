"""Writers that never rest: each commits small business transactions until it is told to stop.

Run as `python -m tests.support.writers postgresql|sqlite TARGET NUMBER`: TARGET is a conninfo or a path. It prints
one line when it has begun and, at the end (standard input is closed), how many transactions it has committed.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import threading
import time

import psycopg

# A receipt of an item grows by one entry, and the balances with it: every rule of the demo ERP holds after each commit.
ENTRY = (
    "(SELECT min(l.id) FROM stock_ledger l JOIN stock_transactions t ON t.id = l.transaction_id"
    " WHERE t.kind = 'RECEIPT' AND l.item_id = {item})"
)
STATEMENTS = (
    "INSERT INTO stock_ledger (transaction_id, item_id, warehouse_id, quantity_change, unit_cost, created_at)"
    " SELECT transaction_id, item_id, warehouse_id, {change}, unit_cost, created_at"
    f" FROM stock_ledger WHERE id = {ENTRY}",
    f"UPDATE items SET on_hand = on_hand + {{change}} WHERE id = (SELECT item_id FROM stock_ledger WHERE id = {ENTRY})",
    "UPDATE stock_levels SET quantity = quantity + {change} WHERE item_id = {item}"
    f" AND warehouse_id = (SELECT warehouse_id FROM stock_ledger WHERE id = {ENTRY})",
    "UPDATE users SET is_active = NOT is_active WHERE id = {item} % 5 + 1",
    "INSERT INTO django_session (session_key, session_data, expire_date) VALUES ('{key}', 'x', '2030-01-01')",
    "DELETE FROM django_session WHERE session_key < '{key}'",
)


def statements(chance: random.Random) -> list[str]:
    """Return one transaction's statements."""
    values = {"change": chance.randrange(1, 9), "item": chance.randrange(1, 20), "key": f"{chance.getrandbits(64):x}"}
    return [statement.format(**values) for statement in STATEMENTS]


def is_over(stop: threading.Event) -> None:
    """Wait for the end of standard input."""
    sys.stdin.read()
    stop.set()


def write_postgresql(target: str, chance: random.Random, stop: threading.Event) -> int:
    """Commit until told to stop; deadlocks between writers are their own business."""
    commits = 0
    with psycopg.connect(target, autocommit=True) as connection:
        while not stop.is_set():
            try:
                with connection.transaction():
                    for statement in statements(chance):
                        connection.execute(statement)
                commits += 1
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                continue
    return commits


def write_sqlite(target: str, chance: random.Random, stop: threading.Event) -> int:
    """Commit until told to stop; a busy database is waited for."""
    commits = 0
    connection = sqlite3.connect(target, timeout=30, isolation_level=None)
    try:
        while not stop.is_set():
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements(chance):
                connection.execute(statement)
            connection.execute("COMMIT")
            commits += 1
            time.sleep(0.005)  # SQLite has no queue: a writer that never rests would keep all others out for ever
    finally:
        connection.close()
    return commits


def main() -> None:
    """Write until standard input ends."""
    kind, target, number = sys.argv[1:4]
    stop = threading.Event()
    threading.Thread(target=is_over, args=[stop], daemon=True).start()
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    write = {"postgresql": write_postgresql, "sqlite": write_sqlite}[kind]
    sys.stdout.write(f"{write(target, random.Random(number), stop)}\n")


if __name__ == "__main__":
    main()
