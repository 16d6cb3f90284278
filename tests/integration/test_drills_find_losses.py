"""A restore that loses or changes anything is found by the drill, named with its figures, exit 6."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import leftovers
from tests.support.host import Host
from tests.support.postgres import Cluster, temporary_database
from tests.support.programs import fake_program

# What happens to the copy right after a faithful restore, and what the report must name.
DAMAGES = {
    "one row lost": (
        "DELETE FROM public.stock_ledger WHERE id = (SELECT max(id) FROM public.stock_ledger)",
        ["public.stock_ledger", "1 rows lost"],
    ),
    "one cell changed": (
        "UPDATE public.partners SET name = name || '.' WHERE id = 1",
        ["public.partners", "content differs"],
    ),
    "one value swapped between two rows": (
        "UPDATE public.partners p SET name = q.name FROM public.partners q WHERE p.id + q.id = 3 AND p.id IN (1, 2)",
        ["public.partners", "content differs"],
    ),
    "a sequence left behind": (
        "SELECT setval(pg_get_serial_sequence('public.partners', 'id'), 1, false)",
        ["sequence public.partners_id_seq", "would collide"],
    ),
    "an index": (
        """DO $$ DECLARE n text; BEGIN
           SELECT indexrelid::regclass INTO n FROM pg_index i LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid
           WHERE indrelid = 'public.stock_ledger'::regclass AND c.oid IS NULL LIMIT 1;
           EXECUTE 'DROP INDEX ' || n; END $$""",
        ["index public.", "on stock_ledger", "found missing"],
    ),
    "a constraint": (
        """DO $$ DECLARE n text; BEGIN SELECT conname INTO n FROM pg_constraint
           WHERE conrelid = 'public.items'::regclass AND contype = 'c' LIMIT 1;
           EXECUTE format('ALTER TABLE public.items DROP CONSTRAINT %I', n); END $$""",
        ["constraint public.", "on items", "found missing"],
    ),
    "a trigger": ("DROP TRIGGER keep_out ON public.tags", ["trigger public.keep_out on tags", "found missing"]),
    "a function": ("DROP FUNCTION public.answer()", ["function public.answer()", "found missing"]),
    "a view": ("DROP VIEW public.active_items", ["view public.active_items", "found missing"]),
    "a view's definition": (
        "CREATE OR REPLACE VIEW public.active_items AS SELECT id, sku FROM public.items WHERE status = 'INACTIVE'",
        ["view public.active_items", "defined otherwise"],
    ),
    "a default": (
        "ALTER TABLE public.users ALTER COLUMN is_active SET DEFAULT false",
        ["column public.users.is_active", "defined otherwise"],
    ),
}
SCHEMA = """
CREATE VIEW public.active_items AS SELECT id, sku FROM public.items WHERE status = 'ACTIVE';
CREATE FUNCTION public.answer() RETURNS integer LANGUAGE sql AS 'SELECT 42';
CREATE FUNCTION public.guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER keep_out BEFORE INSERT ON public.tags FOR EACH ROW EXECUTE FUNCTION public.guard();
"""


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory, postgres: Cluster) -> Iterator[Host]:
    """A demo with a proven backup, whose pg_restore runs whatever SQL stands beside it when it has done its work."""
    folder = tmp_path_factory.mktemp("losses")
    body = (
        'case "$*" in *--list*) exec "$REAL" "$@";; esac\n"$REAL" "$@" || exit $?\n'
        f"exec {postgres.bin_dir}/psql -X -q -v ON_ERROR_STOP=1 -f {folder}/damage.sql > /dev/null"
    )
    programs = fake_program(folder / "bin", "pg_restore", postgres.bin_dir / "pg_restore", body)
    with temporary_database(postgres, owner="erp_owner") as entry:
        host = Host(
            folder / "host",
            databases={"default": entry},
            extra_settings=f'ERP_BACKUP = {{**ERP_BACKUP, "PROGRAM_DIRS": [{str(programs)!r}]}}',
        )
        host.migrate()
        host.seed()
        with postgres.connect(entry["NAME"]) as connection:
            connection.execute(SCHEMA)
        (folder / "damage.sql").write_text("")
        host.manage("dbbackup", "-q")
        host.manage("verifybackup", "-q")
        yield host
        host.close()


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_damaged_copy__found_and_named(proven: Host, postgres: Cluster, damage: str) -> None:
    """Each loss is one that every program reports with exit 0."""
    statement, expected = DAMAGES[damage]
    (proven.folder.parent / "damage.sql").write_text(statement)

    result = proven.manage("verifybackup", check=False, env={"COLUMNS": "400"})

    assert 6 == result.returncode, str(result)
    assert "FAILED" in result.stdout
    for text in expected:
        assert text in result.stdout
    leftovers.assert_nothing_left(proven, postgres)


def test_two_balances_swapped_while_the_total_agrees__both_named(proven: Host, postgres: Cluster) -> None:
    """A model check compares key by key: two items that exchanged their stock are two findings."""
    (proven.folder.parent / "damage.sql").write_text(
        "UPDATE public.stock_ledger SET item_id = 3 - item_id WHERE item_id IN (1, 2)"
    )

    result = proven.manage("verifybackup", "--json", check=False)

    findings = [f["subject"] for f in result.json()["verifications"][0]["findings"]]
    assert 6 == result.returncode
    assert 2 == len([subject for subject in findings if subject.startswith("stock.balances [")])


def test_finding__is_kept_in_the_history(proven: Host) -> None:
    """The history tells of the difference after the terminal is closed."""
    (proven.folder.parent / "damage.sql").write_text(DAMAGES["one row lost"][0])
    proven.manage("verifybackup", check=False)

    script = (
        "from erp_backup.models import Verification as V; v = V.objects.latest();"
        "print(v.outcome, v.exit_code, *v.findings.values_list('subject', flat=True))"
    )
    told = proven.manage("shell", "--verbosity=0", "-c", script).stdout

    assert told.split()[:2] == ["failed", "6"]
    assert "public.stock_ledger" in told
