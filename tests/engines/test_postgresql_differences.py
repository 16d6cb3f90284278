"""What a drill's comparison finds: every difference by name, with the figures, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from erp_backup.core.comparison import compare_figures
from erp_backup.core.figures import Figures
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import DumpRequest
from erp_backup.engines.postgresql.scratch import PostgreSQLScratch
from tests.support.pg_engine import connect, engine_of, run
from tests.support.postgres import Cluster, temporary_database

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'o k', 'glad');
CREATE DOMAIN sku AS text CHECK (VALUE ~ '^[A-Z]');
CREATE TABLE item (id serial PRIMARY KEY, name text NOT NULL, amount numeric(12, 2) DEFAULT 7.5, note text,
    feeling mood, code sku, CONSTRAINT amount_sane CHECK (amount - (10 - 5) < 1000 AND note <> 'a b'));
INSERT INTO item (name, amount, note) SELECT 'Item ' || g, g, nullif('note ' || g % 3, 'note 0')
    FROM generate_series(1, 90) g;
CREATE TABLE twin (a int, b text);
INSERT INTO twin VALUES (1, 'x'), (1, 'x'), (2, 'y'), (2, 'y'), (3, ''), (4, NULL), (5, 'p'), (6, 'q');
CREATE TABLE t (t int, r_ int, "r_.t" int);
INSERT INTO t VALUES (1, 2, 3), (4, 5, 6);
CREATE TABLE entry (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int REFERENCES item ON DELETE CASCADE);
INSERT INTO entry (item) SELECT id FROM item;
CREATE INDEX item_name ON item (name) WHERE note = 'a b';
CREATE FUNCTION tax(a numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT a  * 0.19';
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER loud BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION shout();
CREATE VIEW cheap AS SELECT id, name FROM item WHERE note = 'a b' AND amount < 5;
CREATE MATERIALIZED VIEW total AS SELECT sum(amount) AS total FROM item;
CREATE POLICY mine ON item FOR SELECT USING (name = 'a b');
CREATE RULE quiet AS ON DELETE TO twin WHERE OLD.a > 5 DO INSTEAD NOTHING;
CREATE SEQUENCE free_standing START 5;
CREATE TABLE parted (a int) PARTITION BY RANGE (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
INSERT INTO parted VALUES (5);
SELECT lo_from_bytea(4711, 'large');
CREATE EXTENSION hstore;
CREATE TABLE django_migrations (id int, app text, name text);
INSERT INTO django_migrations VALUES (1, 'erp', '0001_initial'), (2, 'erp', '0002_more');
COMMENT ON TABLE item IS 'a  comment';
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A database, its figures as a snapshot measured them, and a way to measure it as a drill does."""

    entry: dict[str, Any]
    expected: Figures
    scratch: PostgreSQLScratch

    def differences(self) -> list[tuple[str, str, str, str]]:
        """Compare the database as it is now with the snapshot; return kind, subject and both figures of findings."""
        findings = compare_figures(self.expected, self.scratch.figures(self.expected))
        return [(found.kind, found.subject, found.expected, found.found) for found in findings]


@pytest.fixture(scope="module")
def measured(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """A database that stands for a restored copy: each test changes it and changes it back."""
    folder = Folder(tmp_path_factory.mktemp("job"))
    postgres.start()
    with temporary_database(postgres, owner="erp_owner") as entry, connect(entry) as admin:
        admin.execute(SCHEMA)
        engine = engine_of(entry)
        with engine.snapshot(DumpRequest(), folder) as snapshot:
            expected = snapshot.figures()
        scratch = PostgreSQLScratch(
            name=entry["NAME"], settings=entry, admin=admin, tools=engine.tools, folder=folder, major=15
        )
        yield Measured(entry=entry, expected=expected, scratch=scratch)


DIFFERENCES = {
    "a lost row": (
        "DELETE FROM entry WHERE id = 7",
        "INSERT INTO entry OVERRIDING SYSTEM VALUE VALUES (7, 7)",
        [("table", "public.entry", "90 rows", "89 rows")],
    ),
    "a row too many": (
        "INSERT INTO parted VALUES (6)",
        "DELETE FROM parted WHERE a = 6",
        [("table", "public.parted_1", "1 rows", "2 rows")],
    ),
    "a changed cell": (
        "UPDATE item SET amount = 7.01 WHERE id = 7",
        "UPDATE item SET amount = 7 WHERE id = 7",
        [("table", "public.item", "fingerprint", "fingerprint")],
    ),
    "a cell beside a column that is called as an alias is": (
        "UPDATE t SET t = 7 WHERE t = 1",
        "UPDATE t SET t = 1 WHERE t = 7",
        [("table", "public.t", "fingerprint", "fingerprint")],
    ),
    "two rows that swapped a value": (
        "UPDATE twin SET b = CASE b WHEN 'p' THEN 'q' ELSE 'p' END WHERE a IN (5, 6)",
        "UPDATE twin SET b = CASE b WHEN 'p' THEN 'q' ELSE 'p' END WHERE a IN (5, 6)",
        [("table", "public.twin", "fingerprint", "fingerprint")],
    ),
    "a pair of duplicates that became another pair": (
        "UPDATE twin SET a = 2, b = 'y' WHERE a = 1",
        "UPDATE twin SET a = 1, b = 'x' WHERE ctid IN (SELECT ctid FROM twin WHERE a = 2 LIMIT 2)",
        [("table", "public.twin", "fingerprint", "fingerprint")],
    ),
    "an empty text that became null": (
        "UPDATE twin SET b = NULL WHERE a = 3",
        "UPDATE twin SET b = '' WHERE a = 3",
        [("table", "public.twin", "fingerprint", "fingerprint")],
    ),
    "a null that became an empty text": (
        "UPDATE twin SET b = '' WHERE a = 4",
        "UPDATE twin SET b = NULL WHERE a = 4",
        [("table", "public.twin", "fingerprint", "fingerprint")],
    ),
    "a large object that changed": (
        "SELECT lo_put(4711, 0, 'L')",
        "SELECT lo_put(4711, 0, 'l')",
        [("table", "large objects", "fingerprint", "fingerprint")],
    ),
    "a sequence behind its column": (
        "SELECT setval('item_id_seq', 89)",
        "SELECT setval('item_id_seq', 90)",
        [("sequence", "public.item_id_seq", "beyond 90", "at 89")],
    ),
    "a sequence that gives numbers out again": (
        "SELECT setval('free_standing', 4)",
        "SELECT setval('free_standing', 5, false)",
        [("sequence", "public.free_standing", "at 5 or beyond", "at 4")],
    ),
    "a lost sequence": (
        "DROP SEQUENCE free_standing",
        "CREATE SEQUENCE free_standing START 5",
        [
            ("sequence", "public.free_standing", "at 5", "missing"),
            ("sequence", "public.free_standing", "present", "missing"),
        ],
    ),
    "a lost index": (
        "DROP INDEX item_name",
        "CREATE INDEX item_name ON item (name) WHERE note = 'a b'",
        [("index", "public.item_name on item", "present", "missing")],
    ),
    "an index for other rows": (
        "DROP INDEX item_name; CREATE INDEX item_name ON item (name) WHERE note = 'ab'",
        "DROP INDEX item_name; CREATE INDEX item_name ON item (name) WHERE note = 'a b'",
        [("index", "public.item_name on item", "definition", "definition")],
    ),
    "a lost check": (
        "ALTER TABLE item DROP CONSTRAINT amount_sane",
        "ALTER TABLE item ADD CONSTRAINT amount_sane CHECK (amount - (10 - 5) < 1000 AND note <> 'a b')",
        [("constraint", "public.amount_sane on item", "present", "missing")],
    ),
    "a check of something else": (
        """ALTER TABLE item DROP CONSTRAINT amount_sane;
           ALTER TABLE item ADD CONSTRAINT amount_sane CHECK (amount < 1000)""",
        """ALTER TABLE item DROP CONSTRAINT amount_sane;
           ALTER TABLE item ADD CONSTRAINT amount_sane CHECK (amount - (10 - 5) < 1000 AND note <> 'a b')""",
        [("constraint", "public.amount_sane on item", "definition", "definition")],
    ),
    "a lost foreign key": (
        "ALTER TABLE entry DROP CONSTRAINT entry_item_fkey",
        "ALTER TABLE entry ADD FOREIGN KEY (item) REFERENCES item ON DELETE CASCADE",
        [("constraint", "public.entry_item_fkey on entry", "present", "missing")],
    ),
    "a foreign key that does something else": (
        """ALTER TABLE entry DROP CONSTRAINT entry_item_fkey;
           ALTER TABLE entry ADD FOREIGN KEY (item) REFERENCES item ON DELETE SET NULL""",
        """ALTER TABLE entry DROP CONSTRAINT entry_item_fkey;
           ALTER TABLE entry ADD FOREIGN KEY (item) REFERENCES item ON DELETE CASCADE""",
        [("constraint", "public.entry_item_fkey on entry", "definition", "definition")],
    ),
    "a lost trigger": (
        "DROP TRIGGER loud ON item",
        "CREATE TRIGGER loud BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION shout()",
        [("trigger", "public.loud on item", "present", "missing")],
    ),
    "a disabled trigger": (
        "ALTER TABLE item DISABLE TRIGGER loud",
        "ALTER TABLE item ENABLE TRIGGER loud",
        [("trigger", "public.loud on item", "definition", "definition")],
    ),
    "a function with one blank less": (
        "CREATE OR REPLACE FUNCTION tax(a numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT a * 0.19'",
        "CREATE OR REPLACE FUNCTION tax(a numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT a  * 0.19'",
        [("function", "public.tax(a numeric)", "definition", "definition")],
    ),
    "a lost function": (
        "DROP FUNCTION tax(numeric)",
        "CREATE FUNCTION tax(a numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT a  * 0.19'",
        [("function", "public.tax(a numeric)", "present", "missing")],
    ),
    "a view of other rows": (
        "CREATE OR REPLACE VIEW cheap AS SELECT id, name FROM item WHERE note = 'ab' AND amount < 5",
        "CREATE OR REPLACE VIEW cheap AS SELECT id, name FROM item WHERE note = 'a b' AND amount < 5",
        [("view", "public.cheap", "definition", "definition")],
    ),
    "a lost materialized view": (
        "DROP MATERIALIZED VIEW total",
        "CREATE MATERIALIZED VIEW total AS SELECT sum(amount) AS total FROM item",
        [
            ("column", "public.total.total", "present", "missing"),
            ("materialized view", "public.total", "present", "missing"),
        ],
    ),
    "a lost policy": (
        "DROP POLICY mine ON item",
        "CREATE POLICY mine ON item FOR SELECT USING (name = 'a b')",
        [("policy", "public.mine on item", "present", "missing")],
    ),
    "a policy for somebody else": (
        "ALTER POLICY mine ON item TO pg_monitor",
        "ALTER POLICY mine ON item TO public",
        [("policy", "public.mine on item", "definition", "definition")],
    ),
    "a lost rule": (
        "DROP RULE quiet ON twin",
        "CREATE RULE quiet AS ON DELETE TO twin WHERE OLD.a > 5 DO INSTEAD NOTHING",
        [("rule", "public.quiet on twin", "present", "missing")],
    ),
    "security that is switched off": (
        "ALTER TABLE twin ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE twin DISABLE ROW LEVEL SECURITY",
        [("table", "public.twin", "definition", "definition")],
    ),
    "an enumeration's label": (
        "ALTER TYPE mood RENAME VALUE 'o k' TO 'ok'",
        "ALTER TYPE mood RENAME VALUE 'ok' TO 'o k'",
        [("type", "public.mood", "definition", "definition")],
    ),
    "a domain without its rule": (
        "ALTER DOMAIN sku DROP CONSTRAINT sku_check",
        "ALTER DOMAIN sku ADD CONSTRAINT sku_check CHECK (VALUE ~ '^[A-Z]')",
        [("constraint", "public.sku_check on sku", "present", "missing")],
    ),
    "another default": (
        "ALTER TABLE item ALTER amount SET DEFAULT 7.4",
        "ALTER TABLE item ALTER amount SET DEFAULT 7.5",
        [("column", "public.item.amount", "definition", "definition")],
    ),
    "a column that may be empty": (
        "ALTER TABLE item ALTER name DROP NOT NULL",
        "ALTER TABLE item ALTER name SET NOT NULL",
        [("column", "public.item.name", "definition", "definition")],
    ),
    "another type": (
        "ALTER TABLE entry ALTER item TYPE bigint",
        "ALTER TABLE entry ALTER item TYPE int",
        [("column", "public.entry.item", "definition", "definition")],
    ),
    "an identity that anybody can write": (
        "ALTER TABLE entry ALTER id SET GENERATED BY DEFAULT",
        "ALTER TABLE entry ALTER id SET GENERATED ALWAYS",
        [("column", "public.entry.id", "definition", "definition")],
    ),
    "a partition of other values": (
        """ALTER TABLE parted DETACH PARTITION parted_1;
           ALTER TABLE parted ATTACH PARTITION parted_1 FOR VALUES FROM (1) TO (9)""",
        """ALTER TABLE parted DETACH PARTITION parted_1;
           ALTER TABLE parted ATTACH PARTITION parted_1 FOR VALUES FROM (1) TO (10)""",
        [("table", "public.parted_1", "definition", "definition")],
    ),
    "an unlogged table": (
        "ALTER TABLE twin SET UNLOGGED",
        "ALTER TABLE twin SET LOGGED",
        [("table", "public.twin", "definition", "definition")],
    ),
    "another comment": (
        "COMMENT ON TABLE item IS 'a comment'",
        "COMMENT ON TABLE item IS 'a  comment'",
        [("comment", "public.table public.item", "definition", "definition")],
    ),
    "a lost extension": (
        "DROP EXTENSION hstore",
        "CREATE EXTENSION hstore",
        [("extension", "hstore", "1.8", "missing")],
    ),
    "a table too many": (
        "CREATE TABLE intruder AS SELECT 1 AS a",
        "DROP TABLE intruder",
        [
            ("table", "public.intruder", "missing", "1 rows"),
            ("column", "public.intruder.a", "missing", "present"),
            ("table", "public.intruder", "missing", "present"),
        ],
    ),
    "a schema too many": (
        "CREATE SCHEMA intruder",
        "DROP SCHEMA intruder",
        [("schema", "intruder", "missing", "present")],
    ),
    "a migration that is not recorded": (
        "UPDATE django_migrations SET name = '0002_other' WHERE id = 2",
        "UPDATE django_migrations SET name = '0002_more' WHERE id = 2",
        [
            ("table", "public.django_migrations", "fingerprint", "fingerprint"),
            ("migration", "erp.0002_more", "applied", "missing"),
            ("migration", "erp.0002_other", "missing", "applied"),
        ],
    ),
}


@pytest.mark.parametrize(("change", "undo", "findings"), DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_changed_copy__is_named_and_nothing_else_is(
    measured: Measured, change: str, undo: str, findings: list[tuple[str, str, str, str]]
) -> None:
    """Each difference is found with its kind, its subject and both figures; undone, nothing is found any more."""
    run(measured.entry, change)
    try:
        found = measured.differences()
    finally:
        run(measured.entry, undo)

    assert findings == [(kind, subject, _short(expected), _short(is_now)) for kind, subject, expected, is_now in found]
    assert all(expected != is_now for _kind, _subject, expected, is_now in found)
    assert [] == measured.differences()


def _short(figure: str) -> str:
    """Leave the digest out: what it is does not matter here, only that it is another."""
    return figure.split(maxsplit=1)[0] if figure.startswith(("fingerprint ", "definition ")) else figure
