"""A PgBouncer of the tests' own in front of a test server; see docs/why/pgbouncer.md.

It comes from the distribution (`apt-get install pgbouncer`) and refuses to run as root, so it runs as an account that
owns nothing else.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg

HOST: Final = "127.0.0.1"
ACCOUNTS: Final = ("pgbouncer", "postgres", "nobody")
"""Whom root runs it as: the first of these that there is."""
PORT_TRIES: Final = 5
GUARD: Final = (
    'exec 3<&0; "$0" -q "$1" </dev/null 3<&- & program=$!; { cat <&3 >/dev/null; kill -9 $program; } & guard=$!; '
    "wait $program; code=$?; kill $guard; exit $code"
)
"""Runs it until our end of a pipe is closed, by us or by our death: killed tests leave nothing behind."""
START_S: Final = 15.0
STOP_S: Final = 15.0
STEP_S: Final = 0.02

SETTINGS: Final[Mapping[str, str]] = {
    "pool_mode": "transaction",
    # Small, so that sessions really are shared: with one for each client nothing would be tested.
    "default_pool_size": "6",
    "max_client_conn": "1000",
    "auth_type": "trust",
    "listen_addr": HOST,
    "unix_socket_dir": "",
    "admin_users": "goqueue",
    "server_login_retry": "0.1",
    # Tests make and drop databases by the hundred.
    "server_idle_timeout": "30",
    "autodb_idle_timeout": "60",
    "server_connect_timeout": "5",
    "log_connections": "0",
    "log_disconnections": "0",
}


class PgBouncerMissing(Exception):
    """This machine has no PgBouncer."""


def find_pgbouncer() -> str:
    """The program's path. Raises `PgBouncerMissing`."""
    # Distributions put it where only root's PATH looks.
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")
    if found is None:
        raise PgBouncerMissing("there is no pgbouncer: apt-get install pgbouncer")
    return found


class PgBouncer:
    """A pooler in front of the server at ``url``, for all its databases. `start` and `kill` may be repeated.

    The port stays the same over restarts, so that clients find it again. ``settings`` are entries of pgbouncer.ini.
    """

    def __init__(self, folder: Path, url: str, **settings: str) -> None:
        self._folder = folder
        self._server = urlsplit(url)
        self._settings = {**SETTINGS, **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._account = next((a for a in ACCOUNTS if _exists(a)), None) if os.geteuid() == 0 else None

    def url_for(self, database: str) -> str:
        """Url of a database of the server, by way of the pooler."""
        user, _, _ = self._server.netloc.rpartition("@")
        return urlunsplit(("postgresql", f"{user}@{HOST}:{self._port}", f"/{database}", "", ""))

    def behind(self, url: str) -> str:
        """The same database as ``url``, by way of the pooler."""
        return self.url_for(urlsplit(url).path.lstrip("/"))

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        tries = 1 if self._port else PORT_TRIES
        for tries_left in reversed(range(tries)):
            port = self._port or _free_port()
            self._launch(port)
            if self._answers(port):
                self._port = port
                return self
            self.kill()
            if not tries_left:
                raise RuntimeError(f"pgbouncer did not start:\n{self.log}")
        raise AssertionError("unreachable")

    def kill(self) -> None:
        """End it as a crash would: all connections break. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(STOP_S)

    @property
    def log(self) -> str:
        """What it has said."""
        path = self._folder / "pgbouncer.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def version(self) -> tuple[int, ...]:
        """Its version, such as (1, 18, 0)."""
        said = subprocess.run([find_pgbouncer(), "--version"], capture_output=True, text=True, check=True).stdout
        return tuple(int(part) for part in said.split()[1].split("."))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _launch(self, port: int) -> None:
        users = self._folder / "users.txt"
        name, password = unquote(self._server.username or ""), unquote(self._server.password or "")
        self._write(users, f'"{_quoted(name)}" "{_quoted(password)}"\n')
        entries = {**self._settings, "listen_port": str(port), "auth_file": str(users)}
        ini = self._folder / "pgbouncer.ini"
        lines = [f"{key} = {value}" for key, value in entries.items()]
        target = f"* = host={self._server.hostname} port={self._server.port}"
        self._write(ini, "\n".join(["[databases]", target, "[pgbouncer]", *lines, ""]))
        with (self._folder / "pgbouncer.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, find_pgbouncer(), str(ini)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                user=self._account,
                group=pwd.getpwnam(self._account).pw_gid if self._account else None,
                extra_groups=[] if self._account else None,
                start_new_session=True,
            )

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)
        if self._account is not None:
            shutil.chown(path, self._account)

    def _answers(self, port: int) -> bool:
        deadline = time.monotonic() + START_S
        user = unquote(self._server.username or "")
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            try:  # its own console, which needs no server
                with psycopg.connect(
                    host=HOST, port=port, user=user, dbname="pgbouncer", autocommit=True, connect_timeout=2
                ):
                    return True
            except psycopg.OperationalError:
                time.sleep(STEP_S)
        return False


@contextmanager
def temporary_pgbouncer(url: str, **settings: str) -> Iterator[PgBouncer]:
    """A running pooler in front of the server at ``url``, thrown away afterwards."""
    from tests.support.database import temporary_folder

    with temporary_folder() as folder, PgBouncer(folder, url, **settings) as pooler:
        yield pooler


def _exists(account: str) -> bool:
    try:
        return pwd.getpwnam(account).pw_uid != 0
    except KeyError:
        return False


def _quoted(text: str) -> str:
    return text.replace('"', '""')


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        port: int = one.getsockname()[1]
        return port
