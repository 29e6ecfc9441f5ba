"""A PostgreSQL of the project's own, in a folder, on loopback: `goqueue dev` and the tests use it.

The folder (`data_dir`) holds `pg/` (the cluster), `password` (random, 0600), `state.json` (the port),
`postgres.log` and the lock files that guard.py explains. Several processes may use one server: the
first starts it, others adopt it, and it stops with the last of them, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from goqueue.cli.dev import guard
from goqueue.cli.dev.binaries import Account, Binaries, clean_environment, find_binaries
from goqueue.cli.dev.cluster import make_cluster, prepare_home, write_private
from goqueue.cli.dev.errors import EmbeddedFailed, EmbeddedUnavailable
from goqueue.cli.dev.place import (
    DATABASE,
    HOST,
    Postmaster,
    attach,
    default_data_dir,
    read_pid,
    read_postmaster,
    read_remembered_port,
    url_of,
)

__all__ = ["EmbeddedFailed", "EmbeddedPostgres", "EmbeddedUnavailable", "attach", "default_data_dir"]

START: Final = "start.lock"
PORT_TRIES = 5
LOG_BYTES_MAX = 8 * 1024 * 1024

DEFAULT_SETTINGS: Final[Mapping[str, str]] = {
    "shared_buffers": "128MB",
    "max_connections": "200",
    "jit": "off",
    "max_wal_size": "1GB",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# For tests: what is lost is thrown away anyway.
VOLATILE_SETTINGS: Final[Mapping[str, str]] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}

# Guards of ours whose server others still use: kept, so that they are not reported as forgotten.
_LEFT_BEHIND: Final[list[subprocess.Popen[bytes]]] = []


class EmbeddedPostgres:
    """A PostgreSQL cluster in `data_dir`.

    `start()` and `stop()` may be called repeatedly and in any order; every wait has a deadline.
    `durable=False` turns off all that makes data survive a crash (tests). `settings` are extra
    entries of postgresql.conf. As root the server runs as another account, which has to be able to
    reach `data_dir`.

    Raises:
        EmbeddedUnavailable: this machine has no PostgreSQL that could be started.
        EmbeddedFailed: it did not start or stop in time.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        bin_dir: Path | str | None = None,
        port: int | None = None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        start_timeout_s: float = 60.0,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self._bin_dir = Path(bin_dir).absolute() if bin_dir is not None else None
        self._fixed_port = port
        self._durable = durable
        volatile = {} if durable else VOLATILE_SETTINGS
        self._settings = {**DEFAULT_SETTINGS, **volatile, **(settings or {})}
        self._start_timeout_s = start_timeout_s
        self._holding: int | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    # -- what users see ----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """`postgresql://user:password@127.0.0.1:port/goqueue`."""
        return self.url_for(DATABASE)

    def url_for(self, database: str) -> str:
        """The same for another database of this server."""
        return url_of(self.data_dir, self.port, database)

    @property
    def port(self) -> int:
        """The TCP port on loopback."""
        return self._running().port

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self._running().pid

    def is_running(self) -> bool:
        """Does the server accept connections, as far as its own files say?"""
        return read_postmaster(self.data_dir) is not None

    def start(self) -> Self:
        """Make the cluster if there is none, start the server or adopt a running one, and hold it."""
        deadline = time.monotonic() + self._start_timeout_s
        account = prepare_home(self.data_dir)
        with self._one_at_a_time(deadline):
            binaries = find_binaries(self._bin_dir, account)
            self._hold(deadline)
            try:
                if not self._adopt(deadline):
                    make_cluster(self.data_dir, binaries, account, durable=self._durable, deadline=deadline)
                    self._launch(binaries, account, deadline)
                self._ensure_database()
            except BaseException:
                self._release()
                raise
        return self

    def stop(self) -> None:
        """Let go of the server; if nobody else uses it, stop it and wait for its end."""
        if self._holding is None:
            return
        with self._one_at_a_time(time.monotonic() + self._start_timeout_s):
            self._release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # -- the folder --------------------------------------------------------------------------------

    @property
    def _cluster(self) -> Path:
        return self.data_dir / "pg"

    @property
    def _log(self) -> Path:
        return self.data_dir / "postgres.log"

    def _lock_path(self, name: str) -> str:
        return str(self.data_dir / name)

    @contextmanager
    def _one_at_a_time(self, deadline: float) -> Iterator[None]:
        descriptor = guard.open_lock(self._lock_path(START))
        try:
            if not _until(lambda: guard.try_lock(descriptor, fcntl.LOCK_EX), deadline):
                raise EmbeddedFailed(f"another process has been starting {self.data_dir} for too long")
            yield
        finally:
            os.close(descriptor)

    # -- holding it --------------------------------------------------------------------------------

    def _hold(self, deadline: float) -> None:
        if self._holding is not None:
            return
        descriptor = guard.open_lock(self._lock_path(guard.HOLDERS))
        if not _until(lambda: guard.try_lock(descriptor, fcntl.LOCK_SH), deadline):
            os.close(descriptor)
            raise EmbeddedFailed(f"the server in {self.data_dir} is stopping and does not come to an end")
        self._holding = descriptor

    def _release(self) -> None:
        """Give up the shared lock; the last holder stops the server.

        Who gets the exclusive lock is alone. Who does not, either has company (then a shared lock can
        be had), or the guard was faster and is stopping the server already.
        """
        descriptor, self._holding = self._holding, None
        if descriptor is None:
            return
        try:
            if guard.try_lock(descriptor, fcntl.LOCK_EX):
                stopped = self._stop_server()
            elif guard.try_lock(descriptor, fcntl.LOCK_SH):
                if self._guard is not None:  # it stays with the server, and dies after it
                    _LEFT_BEHIND.append(self._guard)
                    self._guard = None
                return
            else:
                stopped = self._is_gone(guard.FAST_S + guard.IMMEDIATE_S + guard.KILL_S)
        finally:
            os.close(descriptor)
        self._reap_guard()
        if not stopped:
            raise EmbeddedFailed(f"PostgreSQL in {self.data_dir} did not stop\n{self._log_tail()}")

    def _reap_guard(self) -> None:
        """Wait for the end of a guard whose server has ended."""
        if self._guard is not None:
            with suppress(subprocess.TimeoutExpired):
                self._guard.wait(guard.KILL_S * 2)
            self._guard = None

    def _stop_server(self) -> bool:
        if guard.is_free(self._lock_path(guard.CLUSTER)):
            return True
        pid = read_pid(self.data_dir)
        if pid is None:  # killed a moment ago: its children are on their way out
            return self._is_gone(guard.KILL_S)
        return guard.stop_postmaster(pid, self._is_gone)

    def _is_gone(self, timeout_s: float) -> bool:
        path = self._lock_path(guard.CLUSTER)
        return guard.wait_until(lambda: guard.is_free(path), timeout_s)

    # -- starting ----------------------------------------------------------------------------------

    def _adopt(self, deadline: float) -> bool:
        """Use a server that runs already; False if there is none (any more)."""
        free = self._lock_path(guard.CLUSTER)
        # A held lock and nobody ready: it is starting, or recovering, or its last children are dying.
        if not _until(lambda: guard.is_free(free) or read_postmaster(self.data_dir) is not None, deadline):
            raise EmbeddedFailed(f"PostgreSQL in {self.data_dir} hangs\n{self._log_tail()}")
        if guard.is_free(free):
            return False
        found = self._running()
        if self._fixed_port not in (None, found.port):
            raise EmbeddedFailed(
                f"this project's PostgreSQL already runs, on port {found.port}; "
                f"stop it first to have it on port {self._fixed_port}"
            )
        if guard.is_free(self._lock_path(guard.GUARD)):
            self._start_guard([], Account(None, None), adopt=found.pid)
        return True

    def _launch(self, binaries: Binaries, account: Account, deadline: float) -> None:
        """Start the server; when its port was taken in the meantime, on another."""
        for _ in range(PORT_TRIES):
            port = self._choose_port()
            settings = self._settings | {
                "listen_addresses": HOST,
                "port": str(port),
                "unix_socket_directories": "",
            }
            command = [binaries.postgres, "-D", str(self._cluster)]
            for name, value in settings.items():
                command += ["-c", f"{name}={value}"]
            # Nobody of this cluster lives (we would have adopted it), so what a crash left is stale;
            # its process id may by now be another program's, which PostgreSQL would believe.
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
            if self._is_up(self._start_guard(command, account, adopt=None), deadline):
                write_private(self.data_dir / "state.json", json.dumps({"port": port}))
                return
            if _is_port_free(port):
                break
        raise EmbeddedFailed(f"PostgreSQL did not start\n{self._log_tail()}")

    def _is_up(self, started: subprocess.Popen[bytes], deadline: float) -> bool:
        """Wait until the server is ready (True) or has ended by itself (False)."""
        if not _until(
            lambda: started.poll() is not None or read_postmaster(self.data_dir) is not None,
            deadline,
        ):
            raise EmbeddedFailed(f"PostgreSQL did not start in {self._start_timeout_s:.0f} s\n{self._log_tail()}")
        return started.poll() is None

    def _start_guard(self, command: list[str], account: Account, *, adopt: int | None) -> subprocess.Popen[bytes]:
        self._reap_guard()
        spec: guard.Spec = {
            "home": str(self.data_dir),
            "command": command,
            "cwd": str(self._cluster),
            "uid": account.uid,
            "gid": account.gid,
            "adopt": adopt,
        }
        if self._log.exists() and self._log.stat().st_size > LOG_BYTES_MAX:
            self._log.replace(self._log.with_suffix(".log.1"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        log = os.open(self._log, flags, 0o600)
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, json.dumps(spec)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=clean_environment(),
                start_new_session=True,
            )
        finally:
            os.close(log)
        return self._guard

    def _choose_port(self) -> int:
        if self._fixed_port is not None:
            if not _is_port_free(self._fixed_port):
                raise EmbeddedFailed(f"port {self._fixed_port} is in use by another program")
            return self._fixed_port
        remembered = read_remembered_port(self.data_dir)
        if remembered is not None and _is_port_free(remembered):
            return remembered
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
            return port

    def _ensure_database(self) -> None:
        """Check that the server that answers is ours, and that the database is there."""
        import psycopg

        try:
            with psycopg.connect(self.url_for("postgres"), autocommit=True, connect_timeout=10) as connection:
                row = connection.execute("SELECT current_setting('data_directory')").fetchone()
                if row is None or Path(row[0]).resolve() != self._cluster.resolve():
                    raise EmbeddedFailed(f"port {self.port} answers, but not from {self._cluster}")
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.Error as error:
            raise EmbeddedFailed(f"PostgreSQL does not answer: {error}\n{self._log_tail()}") from error

    def _running(self) -> Postmaster:
        found = read_postmaster(self.data_dir)
        if found is None:
            raise EmbeddedFailed(f"the PostgreSQL in {self.data_dir} is not running")
        return found

    def _log_tail(self) -> str:
        with suppress(OSError):
            lines = self._log.read_text("utf-8", "replace").splitlines()[-20:]
            return "\n".join([f"{self._log} ends with:", *lines])
        return f"{self._log} cannot be read"


# -- small things ----------------------------------------------------------------------------------


def _until(condition: Callable[[], bool], deadline: float) -> bool:
    return guard.wait_until(condition, deadline - time.monotonic())


def _is_port_free(port: int) -> bool:
    with socket.socket() as probe:
        # As PostgreSQL does it: connections of the last run that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
