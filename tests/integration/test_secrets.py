"""Secrets stay secret: canaries in the place of password, keys and SECRET_KEY are looked for wherever a run goes.

Where it goes: both outputs, the history, the manifests, every file, the server's log, and the arguments and
environments of all programs while they run.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage
import pytest

from tests.support import leftovers
from tests.support.host import Host, Result, write_host_project
from tests.support.postgres import Cluster
from tests.support.programs import BAD_DUMPS, fake_program
from tests.support.sampling import Canary, Sampler, Sighting, loose_modes
from tests.support.tiers import some

# What a password may hold that quoting gets wrong; and what no encoding of it would change.
ODD = "p:\\'\" %40$"
ROLE = "canary_owner"
ERP_PROCESS = "erp_backup.modelchecks.child"
SETTINGS = """
import os
SECRET_KEY = os.environ["CANARY_SECRET_KEY"]
DATABASES["default"]["PASSWORD"] = os.environ.get("CANARY_PASSWORD", "")
ERP_BACKUP = {
    "ENCRYPTION": {
        "RECIPIENTS": os.environ.get("RECIPIENTS", "").split(),
        "IDENTITY_FILE": os.environ.get("IDENTITY_FILE"),
    },
    "COMPRESSION": {"METHOD": "none"},
    "PROGRAM_DIRS": os.environ.get("PROGRAM_DIRS", "").split(),
}
"""
CHECKS = """
from erp_backup import Count, model_check
from shop.models import Product

Count("shop.products", Product)

@model_check("shop.own_function")
def own_function() -> int:
    return Product.objects.count()
"""


def token() -> str:
    """Return letters and digits that stand nowhere else."""
    return f"canary{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Secrets:
    """What must not be found, and where it was put on purpose."""

    password: Canary
    secret_key: Canary
    identity: Canary
    identity_text: str
    recipient: str

    @classmethod
    def make(cls) -> Secrets:
        """New ones."""
        identity = pyrage.x25519.Identity.generate()
        return cls(
            password=Canary("the database's password", token()),
            secret_key=Canary("SECRET_KEY", token()),
            identity=Canary("the age identity", str(identity).removeprefix("AGE-SECRET-KEY-1")),
            identity_text=str(identity),
            recipient=str(identity.to_public()),
        )

    @property
    def password_text(self) -> str:
        """The whole password."""
        return f"{ODD}{self.password.token}{ODD}"

    def found_in(self, content: bytes | str) -> list[str]:
        """Return the names of those that are in there."""
        raw = content.encode(errors="surrogateescape") if isinstance(content, str) else content
        return [canary.name for canary in (self.password, self.secret_key, self.identity) if canary.is_in(raw)]


@pytest.fixture(scope="module")
def canaries() -> Secrets:
    """The secrets of this module's runs."""
    return Secrets.make()


@pytest.fixture(scope="module")
def cluster(canaries: Secrets) -> Iterator[Cluster]:
    """A cluster that writes every statement into its log."""
    with Cluster(log_statement="all", log_connections="on", log_disconnections="on") as cluster:
        cluster.create_role(ROLE, canaries.password_text)
        yield cluster


@pytest.fixture(scope="module")
def template(cluster: Cluster, canaries: Secrets, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database of the canary's owner that has the project's tables."""
    entry = cluster.create_database("template_of_the_erp", owner=ROLE)
    with contextlib.closing(write_host_project(tmp_path_factory.mktemp("made"), databases={"default": entry})) as host:
        host.migrate()
    return str(entry["NAME"])


@dataclass
class Watched:
    """A project whose every run is watched."""

    host: Host
    cluster: Cluster
    canaries: Secrets
    folder: Path
    log_start: int
    sightings: set[Sighting]
    loose: dict[Path, str]
    outputs: list[Result]

    @property
    def environment(self) -> dict[str, str]:
        """What the commands are told by their environment; each run may say it otherwise."""
        return {
            "CANARY_PASSWORD": self.canaries.password_text,
            "CANARY_SECRET_KEY": self.canaries.secret_key.token,
            "RECIPIENTS": self.canaries.recipient,
            "IDENTITY_FILE": str(self.identity_file),
            "TMPDIR": str(self.folder / "tmp"),
        }

    @property
    def identity_file(self) -> Path:
        """The file that holds the age identity."""
        return self.folder / "keys" / "identity"

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.host.folder / "site" / ".erp_backup"

    def run(self, *args: str, **env: str) -> Result:
        """Run a command to its end, with nothing masked from what it makes, watch it, and keep what it wrote."""
        with self.watched(*args, **env) as process:
            stdout, stderr = process.communicate(timeout=120)
        result = Result(args=args, returncode=process.returncode, stdout=stdout, stderr=stderr)
        self.outputs.append(result)
        return result

    @contextlib.contextmanager
    def watched(self, *args: str, **env: str) -> Iterator[Any]:
        """Start a command and watch it until the end of the block."""
        mask = os.umask(0)
        try:
            process = self.host.popen(*args, env={**self.environment, **env})
        finally:
            os.umask(mask)
        with Sampler(process.pid, [self.state]) as sampler:
            yield process
        self.sightings |= sampler.sightings
        self.loose |= sampler.loose

    def programs(self, name: str, body: str) -> str:
        """Put a program of ours before PostgreSQL's own and return its folder."""
        return str(fake_program(self.folder / f"bin-{name}", name, self.cluster.bin_dir / name, body))

    def assert_secret(self) -> None:
        """Assert that no canary is anywhere, except where it was put."""
        assert {} == self.found()

    def found(self) -> dict[str, list[str]]:
        """Return the places where canaries are, each with those that are there."""
        history = self.host.manage("dumpdata", "erp_backup", env=self.environment).stdout
        places: dict[str, bytes] = {"the history": history.encode()}
        for result in self.outputs:
            places[f"the output of {' '.join(result.args)}"] = str(result).encode()
        for path in self.folder.rglob("*"):
            if path.is_file() and path.name != "settings.py" and path != self.identity_file:
                places[str(path)] = path.read_bytes()
        places["the server's log"] = self.cluster.log.read_bytes()[self.log_start :]
        for sighting in self.sightings:
            places[f"the arguments of {sighting.pid} {sighting.command}"] = sighting.argv
            if ERP_PROCESS not in sighting.command:
                places[f"the environment of {sighting.pid} {sighting.command}"] = sighting.environ
        return {place: names for place, content in places.items() if (names := self.canaries.found_in(content))}

    def assert_private(self) -> None:
        """Assert that nobody else could use anything of it, neither now nor while it ran."""
        assert {} == self.loose | loose_modes(self.state)

    def assert_tidy(self) -> None:
        """Assert that no job's folder, and so no passfile, is left; nor anything in the folder for temporary files."""
        jobs = self.state / "jobs"
        assert [] == (sorted(jobs.iterdir()) if jobs.exists() else [])
        assert [] == sorted((self.folder / "tmp").iterdir())
        assert [] == leftovers.processes_of(self.host)


@pytest.fixture
def watched(tmp_path: Path, cluster: Cluster, template: str, canaries: Secrets) -> Iterator[Watched]:
    """A foreign project on a database whose owner has the canary password; its tables are made."""
    name = f"erp_{secrets.token_hex(4)}"
    entry = cluster.create_database(name, owner=ROLE, template=template)
    host = write_host_project(
        tmp_path / "host", databases={"default": entry | {"PASSWORD": ""}}, extra_settings=SETTINGS
    )
    (tmp_path / "host" / "site" / "shop" / "backup_checks.py").write_text(CHECKS)
    for folder in ("keys", "tmp"):
        (tmp_path / folder).mkdir(mode=0o700)
    with contextlib.closing(host):
        watched = Watched(
            host=host,
            cluster=cluster,
            canaries=canaries,
            folder=tmp_path,
            log_start=cluster.log.stat().st_size,
            sightings=set(),
            loose={},
            outputs=[],
        )
        watched.identity_file.touch(mode=0o600)
        watched.identity_file.write_text(f"# a key\n{canaries.identity_text}\n")
        yield watched
    cluster.drop_database(name)


# Long enough to be seen on a busy machine; the real program then does what it does.
SLOW = 'sleep 0.3; exec "$REAL" "$@"'
# Says all that it was told, and dies: an error message of ours repeats the end of what a program says.
NOISY = 'env >&2; echo "$0 $*" >&2; echo "pg_dump: error: it died of talking" >&2; exit 1'

NONSENSE = {"sslmode": "nonsense"}


class TestSampler:
    """The control: what looks for secrets finds them."""

    def test_secret_in_arguments_and_environment__is_seen(self, watched: Watched) -> None:
        """A program that is given both, for a moment only, by the very pg_dump that a backup starts."""
        word = watched.canaries.password.token
        body = f'GIVEN={word} sleep 0.2; sh -c \'sleep 0.2\' {word}; exec "$REAL" "$@"'
        watched.run("dbbackup", "-q", PROGRAM_DIRS=watched.programs("pg_dump", body))

        in_arguments = [seen.command for seen in watched.sightings if watched.canaries.found_in(seen.argv)]
        in_environment = [seen.command for seen in watched.sightings if watched.canaries.found_in(seen.environ)]
        assert f"sh -c sleep 0.2 {word}" in in_arguments
        assert "sleep 0.2" in in_environment
        places = [re.sub(r" of \d+ ", " of ", place) for place in watched.found()]
        assert {"the environment of sleep 0.2", f"the arguments of sh -c sleep 0.2 {word}"} <= set(places)

    def test_secret_in_a_file__is_found(self, watched: Watched) -> None:
        """Also as base64 has it, in the middle of something else."""
        watched.run("dbbackup", "-q")
        text = base64.b64encode(f"user:{watched.canaries.password_text}".encode())
        (watched.state / "note").write_bytes(text)

        assert {str(watched.state / "note"): ["the database's password"]} == watched.found()

    def test_loose_file__is_seen(self, watched: Watched) -> None:
        """A file that others may read, for a moment only."""
        body = f'touch {watched.state}/jobs/loose; sleep 0.2; rm {watched.state}/jobs/loose; exec "$REAL" "$@"'
        watched.run("dbbackup", "-q", PROGRAM_DIRS=watched.programs("pg_dump", f"umask 0; {body}"))

        assert {watched.state / "jobs" / "loose": "0666"} == watched.loose


class TestGoodRuns:
    """Nothing leaks when all goes well."""

    def test_backup_and_drill__nothing_seen(self, watched: Watched) -> None:
        """Encrypted, with functions of the ERP in processes of their own; every program is seen at least once."""
        folders = " ".join(watched.programs(name, SLOW) for name in ("pg_dump", "pg_restore"))
        made = watched.run("dbbackup", "-v3", "--traceback", PROGRAM_DIRS=folders)
        verified = watched.run("verifybackup", "-v3", "--traceback", PROGRAM_DIRS=folders)
        watched.run("listbackups", "--json")

        assert [0, 0] == [made.returncode, verified.returncode], f"{made}{verified}"
        commands = " ".join(seen.command for seen in watched.sightings if seen.environ)
        assert {name for name in ("pg_dump", "pg_restore", ERP_PROCESS) if name in commands} == {
            "pg_dump",
            "pg_restore",
            ERP_PROCESS,
        }
        watched.assert_secret()
        watched.assert_private()
        watched.assert_tidy()

    def test_erps_own_process__has_what_it_was_started_with(self, watched: Watched) -> None:
        """It is the ERP, whose settings read its environment: it has what the command had, and no secret more."""
        watched.run("dbbackup", "-q", RECIPIENTS="")

        [environ] = {seen.environ for seen in watched.sightings if ERP_PROCESS in seen.command}
        holders = {line.partition(b"=")[0].decode() for line in environ.split(b"\0") if watched.canaries.found_in(line)}
        assert {"CANARY_PASSWORD", "CANARY_SECRET_KEY"} == holders

    def test_archive_as_it_is__holds_no_secret(self, watched: Watched) -> None:
        """Neither compressed nor encrypted, twice, so that the second holds the history of the first."""
        for _ in range(2):
            assert 0 == watched.run("dbbackup", RECIPIENTS="").returncode

        watched.assert_secret()

    def test_plain_format__psql_sees_none(self, watched: Watched) -> None:
        """The other pair of programs."""
        folder = watched.programs("psql", SLOW)
        made = watched.run("dbbackup", "--format", "plain", PROGRAM_DIRS=folder)
        verified = watched.run("verifybackup", PROGRAM_DIRS=folder)

        assert [0, 0] == [made.returncode, verified.returncode], f"{made}{verified}"
        assert any("psql" in seen.command for seen in watched.sightings)
        watched.assert_secret()
        watched.assert_private()

    def test_password_of_libpqs_own_variable__goes_no_further(self, watched: Watched) -> None:
        """`PGPASSWORD`, which every program of PostgreSQL would take: ours get a file instead."""
        password = {"CANARY_PASSWORD": "", "PGPASSWORD": watched.canaries.password_text}
        folders = " ".join(watched.programs(name, SLOW) for name in ("pg_dump", "pg_restore"))
        made = watched.run("dbbackup", PROGRAM_DIRS=folders, **password)
        verified = watched.run("verifybackup", PROGRAM_DIRS=folders, **password)

        assert [0, 0] == [made.returncode, verified.returncode], f"{made}{verified}"
        watched.assert_secret()

    def test_passfile__private_while_it_is_needed(self, watched: Watched) -> None:
        """The program finds it, nobody else does; the folder it is in is as private."""
        body = 'stat -c "%a %n" "$PGPASSFILE" "$(dirname "$PGPASSFILE")" > "$(dirname "$0")/modes"; exec "$REAL" "$@"'
        folder = watched.programs("pg_dump", body)
        watched.run("dbbackup", "-q", PROGRAM_DIRS=folder)

        file, parent = (line.split(" ", 1) for line in (Path(folder) / "modes").read_text().splitlines())
        assert ("600", "700") == (file[0], parent[0])
        assert not Path(file[1]).exists()
        watched.assert_tidy()


class TestBadRuns:
    """Nothing leaks when something fails: errors quote, and files stay."""

    def check(self, watched: Watched, code: int, *args: str, **env: str) -> Result:
        """Run what must fail with that code, as text and as JSON, and look everywhere."""
        result = watched.run(*args, "-v3", "--traceback", **env)
        assert code == result.returncode, str(result)
        assert code == watched.run(*args, "--json", **env).returncode
        watched.assert_secret()
        watched.assert_private()
        watched.assert_tidy()
        return result

    @pytest.mark.parametrize(
        ("command", "key", "value"),
        some(
            [
                (command, *entry)
                for entry in [("HOST", "no-such-host.invalid"), ("PORT", "1"), ("PORT", "x"), ("OPTIONS", NONSENSE)]
                for command in ("dbbackup", "verifybackup")
            ],
            3,
        ),
    )
    def test_server_out_of_reach__nothing_seen(self, watched: Watched, command: str, key: str, value: object) -> None:
        """The database's entry is what such an error is about."""
        if command == "verifybackup":
            watched.run("dbbackup", "-q")
        with (watched.host.folder / "site" / "hostsite" / "settings.py").open("a") as settings:
            settings.write(f"if os.environ.get('SPOILT'): DATABASES['default'][{key!r}] = {value!r}\n")

        result = watched.run(command, "-v3", "--traceback", SPOILT="1")

        assert 23 == result.returncode, str(result)
        watched.assert_secret()
        watched.assert_tidy()

    def test_wrong_password__nothing_seen(self, watched: Watched, canaries: Secrets) -> None:
        """It is wrong here, but maybe right elsewhere."""
        self.check(watched, 23, "dbbackup", CANARY_PASSWORD=f"{canaries.password_text}!")

    def test_password_that_no_file_can_hold__nothing_seen(self, watched: Watched, canaries: Secrets) -> None:
        """A line break in it: refused, and not repeated."""
        password = f"{canaries.password_text}\nx"
        with watched.cluster.connect() as connection:
            connection.execute(f"ALTER ROLE {ROLE} PASSWORD {_literal(password)}")
        start = watched.cluster.log.stat().st_size
        result = watched.run("dbbackup", "-v3", "--traceback", CANARY_PASSWORD=password)
        said = watched.cluster.log.read_bytes()[start:]
        with watched.cluster.connect() as connection:
            connection.execute(f"ALTER ROLE {ROLE} PASSWORD {_literal(canaries.password_text)}")
        watched.log_start = watched.cluster.log.stat().st_size

        assert 9 == result.returncode, str(result)
        assert "line break" in result.stderr
        assert [] == canaries.found_in(said)
        watched.assert_secret()
        watched.assert_tidy()

    @pytest.mark.parametrize("option", ["sslpassword", "scram_client_key"])
    def test_secret_option__refused_and_not_repeated(self, watched: Watched, option: str) -> None:
        """It would stand on a command line: libpq has neither a variable nor a file for it."""
        with (watched.host.folder / "site" / "hostsite" / "settings.py").open("a") as settings:
            settings.write(f"DATABASES['default']['OPTIONS'] = {{{option!r}: SECRET_KEY}}\n")

        result = watched.run("dbbackup", "-v3", "--traceback")

        assert result.returncode in {9, 23}, str(result)
        watched.outputs = [result]
        assert [] == watched.canaries.found_in(str(result))
        watched.assert_tidy()

    @pytest.mark.parametrize("body", some([BAD_DUMPS["before"], BAD_DUMPS["amid"], BAD_DUMPS["after"], NOISY], 3))
    def test_dying_pg_dump__nothing_seen(self, watched: Watched, body: str) -> None:
        """Also when it repeats all that it was told."""
        self.check(watched, 20, "dbbackup", PROGRAM_DIRS=watched.programs("pg_dump", f"sleep 0.2; {body}"))

    def test_dying_pg_restore__nothing_seen(self, watched: Watched) -> None:
        """A drill that cannot go on."""
        watched.run("dbbackup", "-q")
        body = f'[ "$1" = --list ] && exec "$REAL" "$@"; sleep 0.2; {NOISY}'
        result = watched.run("verifybackup", "-v3", PROGRAM_DIRS=watched.programs("pg_restore", body))

        assert 0 != result.returncode
        assert "died of talking" in str(result)
        watched.assert_secret()
        watched.assert_tidy()

    def test_wrong_key__nothing_seen(self, watched: Watched) -> None:
        """A key that does not fit."""
        watched.run("dbbackup", "-q")
        other = Secrets.make()
        watched.identity_file.write_text(other.identity_text)
        result = self.check(watched, 8, "verifybackup")

        assert [] == other.found_in(str(result))

    @pytest.mark.parametrize("spoil", some(["cut", "changed", "twice"], 2))
    def test_damaged_key__nothing_seen(self, watched: Watched, canaries: Secrets, spoil: str) -> None:
        """A parser's error may quote what it could not read."""
        text = canaries.identity_text
        spoilt = {"cut": text[:-3], "changed": f"{text[:-1]}{'Q' if text[-1] != 'Q' else 'P'}", "twice": text * 2}
        watched.run("dbbackup", "-q")
        watched.identity_file.write_text(spoilt[spoil])

        self.check(watched, 8, "verifybackup")

    @pytest.mark.parametrize(
        ("command", "setting"),
        some(
            [
                (command, setting)
                for setting in ("RECIPIENTS", "IDENTITY_FILE")
                for command in ("dbbackup", "verifybackup", "check")
            ],
            3,
        ),
    )
    def test_secret_key_in_the_settings__nothing_seen(
        self, watched: Watched, canaries: Secrets, command: str, setting: str
    ) -> None:
        """The halves of a pair are easily mistaken, and a key for its file; no message spreads the wrong one."""
        watched.run("dbbackup", "-q")
        result = watched.run(command, "-v3", "--traceback", **{setting: canaries.identity_text})

        assert result.returncode in {1, 2}, str(result)
        assert f"ERP_BACKUP['ENCRYPTION']['{setting}'] holds a secret key itself" in result.stderr
        watched.assert_secret()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_stopped__passfile_gone(self, watched: Watched, number: signal.Signals) -> None:
        """In the middle of the dump."""
        folder = watched.programs("pg_dump", 'touch "$(dirname "$0")/begun"; exec sleep 100')
        with watched.watched("dbbackup", PROGRAM_DIRS=folder) as process:
            _wait_for(Path(folder) / "begun")
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=60)
        watched.outputs.append(Result(args=("dbbackup",), returncode=process.returncode, stdout=stdout, stderr=stderr))

        assert 128 + number == process.returncode
        watched.assert_secret()
        watched.assert_private()
        watched.assert_tidy()

    def test_killed__passfile_gone_with_the_next_run(self, watched: Watched) -> None:
        """Nobody can clean up after SIGKILL but the next run; until then the file is as private as ever."""
        folder = watched.programs("pg_dump", 'touch "$(dirname "$0")/begun"; exec sleep 100')
        with watched.watched("dbbackup", PROGRAM_DIRS=folder) as process:
            _wait_for(Path(folder) / "begun")
            process.kill()
            process.communicate(timeout=60)
        watched.assert_private()
        left = list((watched.state / "jobs").glob("*/*"))
        assert [path for path in left if watched.canaries.found_in(path.read_bytes())]

        assert 0 == watched.run("dbbackup").returncode
        watched.assert_secret()
        watched.assert_tidy()


class TestModes:
    """Files 0600, folders 0700, with a umask that masks nothing."""

    def test_locations_and_state__private(self, watched: Watched, tmp_path: Path) -> None:
        """In the default location, in a folder that the command makes, and after verifications."""
        place = tmp_path / "new" / "deeper"
        watched.run("dbbackup", "-q")
        watched.run("dbbackup", "-q", "-O", f"{place}/")
        watched.run("dbbackup", "-q", "-O", str(tmp_path / "file" / "today.dump"))
        watched.run("verifybackup", "-q", "--level", "models")

        watched.assert_private()
        found = {path: loose_modes(tmp_path / path) for path in ("new", "file")}
        assert {"new": {}, "file": {}} == found
        assert 2 == len(list(place.iterdir()))

    def test_sqlite__copies_are_private_too(self, tmp_path: Path) -> None:
        """The snapshot and the restored copy are the database itself, in files of ours."""
        host = write_host_project(tmp_path / "host")
        with contextlib.closing(host):
            host.migrate()
            # Enough rows for the copies to live for a while.
            code = (
                "from shop.models import Product as P\n"
                "P.objects.bulk_create([P(name=f'item {n}' * 5, price=1) for n in range(60000)])"
            )
            host.manage("shell", "--no-imports", "-c", code)
            seen = {command: self.run_loosely(host, command) for command in ("dbbackup", "verifybackup")}

        assert {"dbbackup": (0, {}), "verifybackup": (0, {})} == seen
        assert {} == loose_modes(tmp_path / "host" / "site" / ".erp_backup")

    @staticmethod
    def run_loosely(host: Host, command: str) -> tuple[int, dict[Path, str]]:
        """Run a command without a umask and return its exit code and what was loose while it ran."""
        mask = os.umask(0)
        try:
            process = host.popen(command, "-q")
        finally:
            os.umask(mask)
        with Sampler(process.pid, [host.folder / "site" / ".erp_backup"]) as sampler:
            process.communicate(timeout=120)
        assert sampler.rounds > 20
        return process.returncode, sampler.loose


def _literal(text: str) -> str:
    """Return a string literal of SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"E'{escaped}'"


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)
