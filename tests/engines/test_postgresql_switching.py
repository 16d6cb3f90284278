"""The switch on PostgreSQL: what it moves, what it keeps, what it says, and what it leaves when it cannot."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from django.db import connections

from erp_backup.core.clock import SystemClock
from erp_backup.core.errors import LockedError, RefusedError, ServerUnreachableError
from erp_backup.core.workspace import Folder
from erp_backup.engines.base import Replaced
from erp_backup.engines.postgresql import PostgreSQL
from erp_backup.engines.postgresql.connecting import session
from erp_backup.engines.postgresql.locks import advisory_lock, lock_key
from erp_backup.engines.postgresql.switching import kept_name
from tests.support.pg_engine import connect, engine_of, eventually, run
from tests.support.postgres import Cluster
from tests.support.switching import AT, comment, marker, nothing_left, put, relatives, request, restored

PROPERTIES = """
SELECT pg_get_userbyid(d.datdba), d.datconnlimit, d.datacl::text,
       (SELECT array_agg(c ORDER BY c) FROM pg_db_role_setting s, unnest(s.setconfig) c
        WHERE s.setdatabase = d.oid AND s.setrole = 0)
FROM pg_database d WHERE d.datname = %s
"""


@pytest.fixture
def live(pg_engine: PostgreSQL, postgres: Cluster) -> Iterator[PostgreSQL]:
    """The engine of a live database with the mark `old`; what is put aside is dropped at the end."""
    put(pg_engine.database.settings, "old")
    with nothing_left(postgres, pg_engine.database.name):
        yield pg_engine


def switched_once(live: PostgreSQL, folder: Folder) -> Replaced:
    """Switch and settle; return what was put aside."""
    with restored(live, folder) as scratch:
        switched = live.switch(scratch, request())
    live.settle_switch(switched)
    assert switched.replaced is not None
    return switched.replaced


class TestSwitch:
    """Both renames in one transaction."""

    def test_finished_database__takes_the_live_one_s_place(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """The content is the new one's, the old one is kept under a name with the time, and no scratch is left."""
        entry = live.database.settings
        with restored(live, job_folder) as scratch:
            switched = live.switch(scratch, request())

        assert "new" == marker(entry)
        assert switched.replaced is not None
        assert (f"{entry['NAME']}__old_20260105_123015", entry["NAME"], "restore-1", AT) == (
            switched.replaced.name,
            switched.replaced.live,
            switched.replaced.restore,
            switched.replaced.replaced_at,
        )
        assert switched.replaced.size > 1_000_000
        assert "old" == marker(entry, switched.replaced.name)
        assert {switched.replaced.name} == relatives(postgres, entry["NAME"])

    def test_properties__are_as_before(self, live: PostgreSQL, job_folder: Folder, postgres: Cluster) -> None:
        """Settings, rights, limit, owner and comment belong to the name: all of them are those of the old one."""
        name = live.database.name
        with postgres.connect() as admin:
            for statement in (
                f'ALTER DATABASE {name} SET search_path = \'odd "name\', public, "$user"',
                f"ALTER DATABASE {name} SET work_mem = '7MB'",
                f"ALTER DATABASE {name} SET application_name = 'it''s, \"so\"'",
                f"ALTER ROLE erp_owner IN DATABASE {name} SET work_mem = '9MB'",
                f"ALTER DATABASE {name} CONNECTION LIMIT 77",
                f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
                f"GRANT CONNECT, TEMP ON DATABASE {name} TO pg_monitor WITH GRANT OPTION",
                f"COMMENT ON DATABASE {name} IS 'the accounts'",
            ):
                admin.execute(statement)
            before = admin.execute(PROPERTIES, [name]).fetchone()
            replaced = switched_once(live, job_folder)
            after = admin.execute(PROPERTIES, [name]).fetchone()
            kept = admin.execute(PROPERTIES, [replaced.name]).fetchone()
        with connect(live.database.settings) as connection:
            (work_mem,) = connection.execute("SHOW work_mem").fetchone() or ()

        assert before is not None
        assert sorted(before[2].strip("{}").split(",")) == sorted(after[2].strip("{}").split(","))
        assert before[:2] + before[3:] == after[:2] + after[3:]
        assert before == kept
        assert "9MB" == work_mem
        assert "the accounts" == comment(postgres, name)

    def test_owner_is_a_group__so_is_the_new_one_s(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """A member of the role that owns the live database restores as it would."""
        with postgres.connect() as admin:
            admin.execute("CREATE ROLE erp_group")
            admin.execute("GRANT erp_group TO erp_owner")
            admin.execute(f"ALTER DATABASE {live.database.name} OWNER TO erp_group")
            try:
                replaced = switched_once(live, job_folder)
                rows = [admin.execute(PROPERTIES, [name]).fetchone() for name in (live.database.name, replaced.name)]
                live.release(replaced)
            finally:
                admin.execute(f"ALTER DATABASE {live.database.name} OWNER TO erp_owner")
                admin.execute("DROP ROLE erp_group")

        assert rows[0] is not None
        assert "erp_group" == rows[0][0] == (rows[1] or ("",))[0]

    def test_property_that_cannot_be_copied__refused_and_nothing_changed(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """What only a superuser may set would be lost: that is known before the transaction."""
        with postgres.connect() as admin:
            admin.execute(f"ALTER DATABASE {live.database.name} SET log_min_duration_statement = 7")
        with (
            pytest.raises(RefusedError, match="log_min_duration_statement"),
            restored(live, job_folder) as scratch,
        ):
            live.switch(scratch, request())

        assert "old" == marker(live.database.settings)
        assert set() == relatives(postgres, live.database.name)

    def test_rights_never_changed__stay_the_usual_ones(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """A scratch database is closed to others; as the live one it lets in whom the live one let in."""
        postgres.create_role("somebody", "secret")
        try:
            switched_once(live, job_folder)
            with postgres.connect(live.database.name, user="somebody") as connection:
                answer = connection.execute("SELECT current_database()").fetchone()
        finally:
            postgres.drop_role("somebody")

        assert (live.database.name,) == answer

    def test_sessions_of_others__are_ended(self, live: PostgreSQL, job_folder: Folder, postgres: Cluster) -> None:
        """Whoever is connected is in the way of a rename: other roles', too, and in the copy as well."""
        postgres.create_role("somebody", "secret")
        try:
            with restored(live, job_folder) as scratch:
                others = [
                    postgres.connect(live.database.name, user="somebody"),
                    connect(live.database.settings),
                    connect(live.database.settings, scratch.name),
                ]
                others[1].execute("BEGIN")
                others[1].execute("UPDATE mark SET value = 'never'")
                live.switch(scratch, request())
            for other in others:
                with pytest.raises(psycopg.OperationalError):
                    other.execute("SELECT 1")
                other.close()
        finally:
            postgres.drop_role("somebody")

        assert "new" == marker(live.database.settings)

    def test_superuser_in_the_way__locked_and_nothing_changed(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """A session that we may not end is named; both databases stay what they were, and the copy is dropped."""
        entry = live.database.settings
        with (
            postgres.connect(entry["NAME"]),
            pytest.raises(LockedError, match=r"postgres \(.*server process") as caught,
            restored(live, job_folder) as scratch,
        ):
            live.switch(scratch, request(limit=0.5))

        assert "old" == marker(entry)
        assert "Nothing was changed" in str(caught.value)
        assert set() == relatives(postgres, entry["NAME"])
        assert live.recover_switch() is None

    def test_no_live_database__the_copy_takes_the_name(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """On an empty server nothing is put aside; the settings are those that the backup knows of."""
        entry = live.database.settings
        run(entry, f"ALTER DATABASE {entry['NAME']} SET work_mem = '11MB'")
        facts = live.facts()
        postgres.drop_database(entry["NAME"])
        had = live.has_live()
        with live.scratch(facts, job_folder) as scratch:
            put(entry, "new", scratch.name)
            switched = live.switch(scratch, request())
        found = live.recover_switch()
        live.settle_switch(switched)
        with connect(entry) as connection:
            (work_mem,) = connection.execute("SHOW work_mem").fetchone() or ()

        assert not had
        assert live.has_live()
        assert switched == found
        assert switched.replaced is None
        assert "11MB" == work_mem
        assert "new" == marker(entry)
        assert comment(postgres, entry["NAME"]) is None

    def test_long_name__is_cut_to_what_the_server_allows(self) -> None:
        """What is put aside keeps its time; a letter of two bytes is left out whole, and a second one is numbered."""
        name = "ä" * 31

        assert "ä" * 21 + "__old_20260105_123015" == kept_name(name, request())
        assert "ä" * 20 + "__old_20260105_123015_2" == kept_name(name, request(), 2)
        assert "erp__old_20260105_123015" == kept_name("erp", request())

    def test_same_second_twice__both_are_kept(self, live: PostgreSQL, job_folder: Folder) -> None:
        """Two switches with the same time put aside two databases."""
        first = switched_once(live, job_folder)
        second = switched_once(live, job_folder)

        assert f"{first.name}_2" == second.name
        assert {first.name, second.name} == {one.name for one in live.list_replaced()}

    def test_maintenance_database_is_the_live_one__refused(self, live: PostgreSQL, job_folder: Folder) -> None:
        """No session can rename the database that it is in."""
        same = engine_of(live.database.settings, maintenance_database=live.database.name)
        with restored(live, job_folder) as scratch, pytest.raises(RefusedError, match="session in itself"):
            same.switch(scratch, request())

        assert "old" == marker(live.database.settings)

    def test_server_that_is_away__unreachable(self, live: PostgreSQL) -> None:
        """Nobody can tell whether there is a live database: that is not the same as none."""
        away = engine_of({**live.database.settings, "PORT": "1"})

        with pytest.raises(ServerUnreachableError):
            away.has_live()

    def test_live_database_that_keeps_us_out__is_not_taken_for_none(self, live: PostgreSQL, postgres: Cluster) -> None:
        """Closed for a moment is not lost: its rows would not be saved."""
        with postgres.connect() as admin:
            admin.execute(f"ALTER DATABASE {live.database.name} ALLOW_CONNECTIONS false")
            try:
                with pytest.raises(ServerUnreachableError, match="does not let us in"):
                    live.has_live()
            finally:
                admin.execute(f"ALTER DATABASE {live.database.name} ALLOW_CONNECTIONS true")


class TestAfterwards:
    """Between the switch and its end, and the way back."""

    def test_unsettled__is_returned_until_it_is_settled(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """The next run finds what is to be completed, and another switch is refused until then."""
        run(live.database.settings, f"COMMENT ON DATABASE {live.database.name} IS 'erp_backup: mine'")
        with restored(live, job_folder) as scratch:
            switched = live.switch(scratch, request())
        found = live.recover_switch()
        with restored(live, job_folder, "newer") as scratch, pytest.raises(RefusedError, match="never completed"):
            live.switch(scratch, request("restore-2"))
        live.settle_switch(switched)
        live.settle_switch(switched)

        assert switched == found
        assert live.recover_switch() is None
        assert "erp_backup: mine" == comment(postgres, live.database.name)

    def test_replaced_one__is_read_only(self, live: PostgreSQL, job_folder: Folder, aliases_allowed: None) -> None:
        """The history is carried over from there; nothing may be changed in it."""
        replaced = switched_once(live, job_folder)
        with live.replaced_orm(replaced) as alias, connections[alias].cursor() as cursor:
            cursor.execute("SELECT value FROM mark")
            row = cursor.fetchone()
        with (
            pytest.raises(Exception, match="read-only transaction"),
            live.replaced_orm(replaced) as alias,
            connections[alias].cursor() as cursor,
        ):
            cursor.execute("DELETE FROM mark")

        assert ("old",) == row

    def test_back__gives_the_old_one_its_place(self, live: PostgreSQL, job_folder: Folder, postgres: Cluster) -> None:
        """The way back is a switch as well: what was live meanwhile is kept in its turn."""
        run(live.database.settings, f"COMMENT ON DATABASE {live.database.name} IS 'the accounts'")
        replaced = switched_once(live, job_folder)
        switched = live.switch_back(replaced, request("restore-2"))
        unsettled = live.recover_switch()
        live.settle_switch(switched)
        listed = live.list_replaced()

        assert "old" == marker(live.database.settings)
        assert switched == unsettled
        assert switched.replaced is not None
        assert [switched.replaced] == listed
        assert "new" == marker(live.database.settings, switched.replaced.name)
        assert "the accounts" == comment(postgres, live.database.name)

    def test_listed__are_only_ours_of_this_database(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """Another live name, another owner, an edited comment: none of these is ours to drop."""
        replaced = switched_once(live, job_folder)
        mark = comment(postgres, replaced.name)
        assert mark is not None
        others = {
            f"{live.database.name}__other": ("erp_owner", mark.replace(live.database.name, "another")),
            f"{live.database.name}__foreign": ("postgres", mark),
            f"{live.database.name}__edited": ("erp_owner", mark[:-3]),
        }
        for name, (owner, text) in others.items():
            postgres.create_database(name, owner=owner)
            with postgres.connect() as admin:
                admin.execute(f"COMMENT ON DATABASE {name} IS '{text}'")
        listed = live.list_replaced()
        refused = []
        for name in [*others, "postgres", live.database.name]:
            strange = Replaced(name=name, live=live.database.name, restore="restore-1", replaced_at=AT)
            with pytest.raises(RefusedError) as caught:
                live.release(strange)
            with pytest.raises(RefusedError):
                live.switch_back(strange, request())
            refused.append(str(caught.value))

        assert [replaced] == listed
        assert 5 == len(set(refused))
        assert others.keys() | {replaced.name} == relatives(postgres, live.database.name)

    def test_release__drops_it_whoever_looks_into_it(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """Once let go it is gone, and a second time there is nothing to let go."""
        replaced = switched_once(live, job_folder)
        with connect(live.database.settings, replaced.name):
            live.release(replaced)
        with pytest.raises(RefusedError):
            live.release(replaced)

        assert [] == live.list_replaced()
        assert set() == relatives(postgres, live.database.name)

    def test_release_while_a_superuser_looks__locked(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """A session that we may not end keeps it for now."""
        replaced = switched_once(live, job_folder)
        with postgres.connect(replaced.name), pytest.raises(LockedError, match="could not be dropped"):
            live.release(replaced)

        assert [replaced] == live.list_replaced()


class TestKeeping:
    """A restored database that stays beside the live one."""

    def test_new_name__stays_and_is_opened_by_the_command(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """It has the name that was asked for, the live one's rights, no comment of ours, and no clean-up drops it."""
        name = f"{live.database.name}__to look at"
        run(live.database.settings, f"REVOKE CONNECT ON DATABASE {live.database.name} FROM PUBLIC")
        with restored(live, job_folder) as scratch:
            command = live.keep_as(scratch, name)
        removed = live.remove_orphans()
        with postgres.connect() as admin:
            rows = [admin.execute(PROPERTIES, [one]).fetchone() for one in (name, live.database.name)]

        assert command.endswith(f"-d '{name}'")
        assert [] == removed
        assert "new" == marker(live.database.settings, name)
        assert comment(postgres, name) is None
        assert rows[0] == rows[1]

    def test_name_that_cannot_be__refused_and_the_copy_goes(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """One that is taken, the live one's, one that a clean-up would take for an orphan, and impossible ones."""
        with restored(live, job_folder) as scratch:
            for name in ("postgres", live.database.name, "erp_backup_scratch_" + "0" * 16, "", "x" * 64):
                with pytest.raises(RefusedError):
                    live.keep_as(scratch, name)

        assert set() == relatives(postgres, live.database.name)
        assert "old" == marker(live.database.settings)


class TestWriting:
    """The copy is completed before it is switched."""

    def test_writable__whatever_limits_the_role_has(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster, aliases_allowed: None
    ) -> None:
        """A migration may take long; it is not stopped by what is set for the ERP's own sessions, and it is durable."""
        names = ("statement_timeout", "default_transaction_read_only", "synchronous_commit", "row_security")
        with postgres.connect() as admin:
            admin.execute("ALTER ROLE erp_owner SET statement_timeout = '1ms'")
            admin.execute("ALTER ROLE erp_owner SET default_transaction_read_only = on")
            admin.execute("ALTER ROLE erp_owner SET synchronous_commit = off")
            try:
                with live.scratch(live.facts(), job_folder) as scratch, scratch.writable_orm() as alias:
                    with connections[alias].cursor() as cursor:
                        cursor.execute("CREATE TABLE made AS SELECT pg_sleep(0.01)::text")
                        cursor.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
                        values = cursor.fetchone()
                    settings = scratch.writable_process_settings().settings
                    with connect(settings) as other:
                        rows = other.execute("SELECT count(*) FROM made").fetchone()
            finally:
                admin.execute("ALTER ROLE erp_owner RESET ALL")

        assert ("0", "off", "on", "off") == values
        assert (1,) == rows

    def test_search_path__is_the_source_s(self, live: PostgreSQL, job_folder: Folder, aliases_allowed: None) -> None:
        """Names that the ERP does not qualify are found in the copy where the live database has them."""
        name = live.database.name
        run(live.database.settings, f'ALTER DATABASE {name} SET search_path = "odd name", public')
        found = []
        with live.scratch(live.facts(), job_folder) as scratch:
            for opened in (scratch.orm(), scratch.writable_orm()):
                with opened as alias, connections[alias].cursor() as cursor:
                    cursor.execute("SHOW search_path")
                    found.append(cursor.fetchone())

        assert [('"odd name", public',)] * 2 == found

    def test_no_session_of_ours__is_left(self, live: PostgreSQL, job_folder: Folder, postgres: Cluster) -> None:
        """Whatever was opened for a switch is closed after it."""
        switched_once(live, job_folder)
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'erp\\_backup%%'"
        with postgres.connect() as admin:
            gone = eventually(lambda: admin.execute(query).fetchone() == (0,))

        assert gone


class TestRecovery:
    """What a run finds that another one has left."""

    def test_session_that_still_switches__is_waited_for_then_ended(self, live: PostgreSQL) -> None:
        """A dead run's COMMIT may be under way; a session that goes on for ever belongs to nobody any more."""
        clock = ImpatientClock()
        engine = engine_of(live.database.settings, clock=clock)
        with (
            session(live.database.settings, database="postgres", purpose="switch") as other,
            advisory_lock(other, f"switch of {live.database.name}"),
        ):
            found = engine.recover_switch()
            with pytest.raises(psycopg.OperationalError):
                other.execute("SELECT 1")

        assert found is None
        assert 10 < clock.slept < 40

    def test_session_that_cannot_be_ended__locked(self, live: PostgreSQL, postgres: Cluster) -> None:
        """As long as a superuser's session switches this database, nobody knows what it will be."""
        engine = engine_of(live.database.settings, clock=ImpatientClock())
        with postgres.connect() as superuser:
            superuser.execute("SELECT pg_advisory_lock(%s)", [lock_key(f"switch of {live.database.name}")])
            with pytest.raises(LockedError, match="still switching"):
                engine.recover_switch()

    def test_damaged_live_database__is_put_aside_as_it_is(
        self, live: PostgreSQL, job_folder: Folder, postgres: Cluster
    ) -> None:
        """One that nobody can connect to any more has no rows to save, but it is not thrown away."""
        facts = live.facts()
        with postgres.connect() as admin:
            row = admin.execute("SELECT oid FROM pg_database WHERE datname = %s", [live.database.name]).fetchone()
        assert row is not None
        (postgres.data_dir / "base" / str(row[0]) / "PG_VERSION").unlink()
        had = live.has_live()
        with live.scratch(facts, job_folder) as scratch:
            put(live.database.settings, "new", scratch.name)
            switched = live.switch(scratch, request())

        assert not had
        assert "new" == marker(live.database.settings)
        assert live.list_replaced() == [switched.replaced]


class ImpatientClock(SystemClock):
    """A clock whose sleep takes no time."""

    slept = 0.0

    def monotonic(self) -> float:
        """Return the time with all that was slept."""
        return super().monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        """Go on at once, later."""
        self.slept += seconds
