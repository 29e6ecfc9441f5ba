"""A PostgreSQL of the project's own, in a folder, on loopback: `goqueue dev` and the tests use it.

The folder (`data_dir`) holds `pg/` (the cluster), `password` (random, 0600), `state.json` (the port),
`postgres.log` and the lock files that guard.py explains. Several processes may use one server: the
first starts it, others adopt it, and it stops with the last of them, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from goqueue.cli.dev import guard
from goqueue.cli.dev.binaries import (
    Account,
    Binaries,
    EmbeddedUnavailable,
    clean_environment,
    find_account,
    find_binaries,
)
from goqueue.cli.dev.place import (
    DATABASE,
    HOST,
    USER,
    Postmaster,
    attach,
    default_data_dir,
    read_pid,
    read_postmaster,
    read_remembered_port,
    url_of,
)
from goqueue.model.errors import ConfigurationError

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


class EmbeddedFailed(ConfigurationError):
    """The embedded PostgreSQL did not start or stop; the message has the end of its log."""

    code: ClassVar[str] = "embedded_failed"


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
        account = self._prepare_home()
        with self._one_at_a_time(deadline):
            binaries = find_binaries(self._bin_dir, account, self.data_dir)
            self._hold(deadline)
            try:
                if not self._adopt(deadline):
                    self._initialise(binaries, account, deadline)
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

    def _prepare_home(self) -> Account:
        root = os.geteuid() == 0
        self.data_dir.mkdir(mode=0o711 if root else 0o700, parents=True, exist_ok=True)
        facts = self.data_dir.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
            raise EmbeddedFailed(
                f"{self.data_dir} is not a folder of this user's own: another user or a link was "
                "there first. Choose another one (--data-dir) or remove it."
            )
        self.data_dir.chmod(0o711 if root else 0o700)
        account = find_account(self._cluster.stat().st_uid if self._cluster.exists() else None)
        for parent in self.data_dir.parents if account.uid is not None else ():
            facts = parent.stat()
            owned = facts.st_uid == account.uid and facts.st_mode & stat.S_IXUSR
            if not owned and not facts.st_mode & stat.S_IXOTH:
                raise EmbeddedFailed(
                    f"PostgreSQL does not run as root, and the account {account.name} cannot enter "
                    f"{parent}. Choose a data folder outside of it, under /var/tmp say (--data-dir)."
                )
        return account

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

    def _initialise(self, binaries: Binaries, account: Account, deadline: float) -> None:
        """Make the cluster beside its place and move it there: half a cluster never has its name."""
        for leftover in self.data_dir.glob("init-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        version = self._cluster / "PG_VERSION"
        if version.exists():
            made_by = version.read_text("ascii").strip()
            if made_by != str(binaries.major):
                raise EmbeddedFailed(
                    f"{self.data_dir} was made by PostgreSQL {made_by}, and this is "
                    f"{binaries.major}. Move the folder away to start afresh."
                )
            if not (self.data_dir / "password").exists():
                raise EmbeddedFailed(f"{self.data_dir}/password is lost; restore it or start afresh")
            return
        if self._cluster.exists():
            raise EmbeddedFailed(f"{self._cluster} is not a PostgreSQL cluster; move it away")
        password = secrets.token_urlsafe(24)
        _write_private(self.data_dir / "password", password)
        work = Path(tempfile.mkdtemp(prefix="init-", dir=self.data_dir))
        _write_private(work / "password", password)
        _give((work / "password", work), account)
        self._run_initdb(binaries, account, work, deadline)
        (work / "pg").rename(self._cluster)
        _sync(self.data_dir)
        shutil.rmtree(work, ignore_errors=True)

    def _run_initdb(self, binaries: Binaries, account: Account, work: Path, deadline: float) -> None:
        command = [
            *[binaries.initdb, "--pgdata", str(work / "pg"), "--username", USER],
            *["--pwfile", str(work / "password"), "--auth", "scram-sha-256"],
            *["--encoding", "UTF8", "--no-instructions"],
            *_locale(binaries.major),
            *([] if self._durable else ["--no-sync"]),
        ]
        try:
            result = subprocess.run(
                command,
                cwd=work,
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=max(1.0, deadline - time.monotonic()),
                user=account.uid,
                group=account.gid,
                extra_groups=None if account.uid is None else [],
                umask=0o077,
            )
        except subprocess.TimeoutExpired as error:
            raise EmbeddedFailed(f"initdb did not end in {error.timeout:.0f} s") from error
        if result.returncode != 0:
            raise EmbeddedFailed(f"initdb failed:\n{result.stdout[-4000:]}")

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
                _write_private(self.data_dir / "state.json", json.dumps({"port": port}))
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


def _locale(major: int) -> list[str]:
    """C.UTF-8, by PostgreSQL's own provider where it has one (the C library's may lack it)."""
    if major >= 17:
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C"] if sys.platform == "darwin" else ["--locale=C.UTF-8"]


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, for our eyes only."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)


def _give(paths: tuple[Path, ...], account: Account) -> None:
    if account.uid is not None and account.gid is not None:
        for path in paths:
            os.chown(path, account.uid, account.gid)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
