"""Real PostgreSQL clusters for tests: started in half a second, gone without a trace at the end."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from tests.support import watchdog
from tests.support.machine import HOST, Account, find_bin_dir, free_port

START_SECONDS = 60
STOP_SECONDS = 60

StopMode = Literal["smart", "fast", "immediate"]
_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Cluster:
    """A PostgreSQL cluster of our own: its server, folder, superuser and port.

    It listens on TCP and on a socket in `socket_dir`, asks for passwords everywhere, and is removed by `close`; by a
    watchdog when this process dies before that. Use it as a context manager.
    """

    host = HOST
    superuser = "postgres"

    def __init__(self, *, fsync: bool = False, **parameters: str) -> None:
        self.bin_dir = find_bin_dir()
        self.password = secrets.token_urlsafe(18)
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.data_dir = self.folder / "data"
        self.socket_dir = self.folder / "s"
        self.log = self.folder / "log"
        self.port = free_port()
        self._account = Account.for_servers()
        self._passwords = {self.superuser: self.password}
        self._server: subprocess.Popen[bytes] | None = None
        self._watchdog = self._watch()
        try:
            self._initialise(_parameters(fsync=fsync) | parameters)
            self._start_somewhere()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Return where it is; never the password."""
        return f"<Cluster {self.host}:{self.port} {self.folder}>"

    # Servers

    @property
    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self._server is not None and self._server.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the server's first process."""
        assert self._server is not None, "the cluster is stopped"
        return self._server.pid

    def start(self) -> None:
        """Start the server and return when it takes connections; fails with the end of its log."""
        if self.is_running:
            return
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [self.bin_dir / "postgres", "-D", self.data_dir],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=_environment(),
                # A Ctrl-C at the terminal ends the tests; it must not end the server below their clean-up.
                start_new_session=True,
                **self._account.arguments(),
            )
        self._wait_until_ready()

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server: `fast` ends sessions, `smart` waits for them, `immediate` is a crash."""
        if self._server is None:
            return
        self._server.send_signal(_SIGNALS[mode])
        try:
            self._server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
            pytest.fail(f"PostgreSQL did not stop ({mode}) in {STOP_SECONDS} s:\n{self.log_end()}")
        finally:
            self._server = None

    def restart(self) -> None:
        """Stop the server and start it again, on the same port."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the server and remove everything, this time for good."""
        with contextlib.suppress(pytest.fail.Exception):
            self.stop("immediate")
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        self._watchdog.wait()

    def log_end(self, lines: int = 20) -> str:
        """Return the last lines of the server's log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # Databases and roles

    def create_database(self, name: str, **options: str | int | bool) -> dict[str, Any]:
        """Create a database and return its DATABASES entry.

        Options are those of CREATE DATABASE: `owner="erp"`, `encoding="LATIN1"`, `template="template0"`. The entry
        connects as the owner, if `create_role` made it, else as the superuser.
        """
        clauses = [sql.SQL("{} = {}").format(_keyword(key), sql.Literal(value)) for key, value in options.items()]
        self._execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), sql.SQL(" ").join(clauses)))
        owner = str(options.get("owner", self.superuser))
        return self.entry(name, user=owner if owner in self._passwords else self.superuser)

    def drop_database(self, name: str) -> None:
        """Drop a database, if it is there, whoever is connected to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def create_role(self, name: str, password: str, *, createdb: bool = True, superuser: bool = False) -> None:
        """Create a role that may log in with `password`."""
        rights = f"{'CREATEDB' if createdb else 'NOCREATEDB'} {'SUPERUSER' if superuser else 'NOSUPERUSER'}"
        statement = sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}")
        self._execute(statement.format(sql.Identifier(name), sql.SQL(rights), sql.Literal(password)))
        self._passwords[name] = password

    def drop_role(self, name: str) -> None:
        """Drop a role that owns nothing any more."""
        self._execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
        self._passwords.pop(name, None)

    def databases(self) -> set[str]:
        """Return the names of all databases but the templates."""
        with self.connect("postgres") as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate").fetchall()
        return {name for (name,) in rows}

    def entry(self, name: str, user: str | None = None, password: str | None = None) -> dict[str, Any]:
        """Return the DATABASES entry of database `name`, as the superuser or as `user`."""
        user = user or self.superuser
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": user,
            "PASSWORD": self._passwords[user] if password is None else password,
            "HOST": self.host,
            "PORT": str(self.port),
        }

    def url(self, name: str, user: str | None = None, password: str | None = None) -> str:
        """Return the URL of database `name`, as the superuser or as `user`; odd characters are percent-encoded."""
        entry = self.entry(name, user, password)
        account = f"{quote(entry['USER'], safe='')}:{quote(entry['PASSWORD'], safe='')}"
        return f"postgresql://{account}@{self.host}:{self.port}/{quote(name, safe='')}"

    def connect(
        self, dbname: str = "postgres", *, autocommit: bool = True, user: str | None = None
    ) -> psycopg.Connection[Any]:
        """Return a psycopg connection to database `dbname`, as the superuser or as `user`; the caller closes it."""
        user = user or self.superuser
        return psycopg.connect(
            host=self.host,
            port=self.port,
            dbname=dbname,
            user=user,
            password=self._passwords[user],
            autocommit=autocommit,
            connect_timeout=10,
        )

    # Inside

    def _execute(self, statement: sql.Composed) -> None:
        with self.connect("postgres") as connection:
            connection.execute(statement)

    def _watch(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _initialise(self, parameters: dict[str, str]) -> None:
        password_file = self.folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        self.socket_dir.mkdir(mode=0o700)
        for path in (self.folder, self.socket_dir, password_file):
            self._account.own(path)
        self._initdb(password_file)
        password_file.unlink()
        self._configure(parameters | {"unix_socket_directories": str(self.socket_dir), "port": str(self.port)})

    def _initdb(self, password_file: Path) -> None:
        options = [
            "--no-sync",
            "--no-instructions",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            f"--username={self.superuser}",
            f"--pwfile={password_file}",
            f"--pgdata={self.data_dir}",
        ]
        result = subprocess.run(
            [self.bin_dir / "initdb", *options],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=_environment(),
            check=False,
            **self._account.arguments(),
        )
        if result.returncode != 0:
            pytest.fail(f"initdb failed in {self.folder}:\n{result.stdout}{result.stderr}")

    def _configure(self, parameters: dict[str, str]) -> None:
        """Append to the configuration; the last of several lines wins."""
        with (self.data_dir / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in parameters.items())

    def _start_somewhere(self) -> None:
        """Start on a free port; between choosing and listening another worker may have taken it."""
        for attempt in range(5):
            try:
                self.start()
            except pytest.fail.Exception:
                self._server = None
                if attempt == 4 or "could not bind" not in self.log_end():
                    raise
                self.port = free_port()
                self._configure({"port": str(self.port)})
            else:
                return

    def _wait_until_ready(self) -> None:
        assert self._server is not None
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._server.poll() is not None:
                pytest.fail(f"PostgreSQL ended with status {self._server.returncode}:\n{self.log_end()}")
            if time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL was not ready in {START_SECONDS} s:\n{self.log_end()}")
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        """Whether this server, and not a dead one before it, wrote that it is ready."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


def _parameters(*, fsync: bool) -> dict[str, str]:
    durable = "on" if fsync else "off"
    return {
        "listen_addresses": HOST,
        "max_connections": "100",
        "max_prepared_transactions": "2",
        "wal_level": "logical",
        "fsync": durable,
        "full_page_writes": durable,
        "synchronous_commit": durable,
        "shared_buffers": "64MB",
        "timezone": "UTC",
    }


def _environment() -> dict[str, str]:
    """Return the servers' environment: nothing of ours, no PG* variable."""
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _keyword(option: str) -> sql.SQL:
    words = "CONNECTION LIMIT" if option == "connection_limit" else option.upper()
    assert words.replace("_", "").replace(" ", "").isalpha(), option
    return sql.SQL(words)


@contextlib.contextmanager
def temporary_database(cluster: Cluster, *, owner: str) -> Iterator[dict[str, Any]]:
    """Yield the entry of a new database of `owner` and drop it afterwards, whoever is connected."""
    name = f"erp_{secrets.token_hex(4)}"
    entry = cluster.create_database(name, owner=owner)
    try:
        yield entry
    finally:
        cluster.drop_database(name)
