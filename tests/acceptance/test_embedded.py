"""The embedded PostgreSQL through every way in which it, or what started it, can end."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from goqueue.cli.dev import binaries, guard
from goqueue.cli.dev.embedded import (
    EmbeddedFailed,
    EmbeddedPostgres,
    EmbeddedUnavailable,
    attach,
    default_data_dir,
)
from tests.support.database import bin_dir, temporary_folder

pytestmark = pytest.mark.postgres

ROOT = Path(__file__).resolve().parents[2]
END_S = 30.0

CHILD = """
import sys
from goqueue.cli.dev.embedded import EmbeddedPostgres
server = EmbeddedPostgres(sys.argv[1], bin_dir=sys.argv[2] or None, durable=False)
server.start()
print(server.pid, server.url, flush=True)
sys.stdin.read()
server.stop()
print("stopped", flush=True)
"""


@dataclass
class Child:
    """Another process that uses the server; it lets go when its input is closed."""

    process: subprocess.Popen[str]

    def started(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the child did not start the server; its error is above"
        pid, url = line.split()
        return int(pid), url

    def leave(self) -> None:
        output, _ = self.process.communicate(timeout=END_S)
        assert output.strip() == "stopped"
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=END_S)


@pytest.fixture
def home() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder / "server"
        assert gone(folder / "server"), "the test left a server behind"


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(home, bin_dir=bin_dir(), durable=False)
    yield server
    server.stop()


@pytest.fixture
def children(home: Path) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start_child(stack: ExitStack, home: Path, **options: object) -> Child:
    python = str(options.pop("python", sys.executable))
    process = subprocess.Popen(
        [python, "-c", CHILD, str(home), str(bin_dir() or "")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,  # type: ignore[call-overload]  # one helper for all of Popen's options
    )
    child = Child(process)
    stack.callback(child.kill)
    return child


def gone(home: Path) -> bool:
    """No process of that server lives any more; waits for it."""
    cluster = home / guard.CLUSTER
    return not home.exists() or guard.wait_until(lambda: guard.is_free(str(cluster)), END_S)


def guard_of(pid: int) -> psutil.Process:
    """The guard is the server's parent."""
    parent = psutil.Process(pid).parent()
    assert parent is not None
    assert "guard.py" in " ".join(parent.cmdline())
    return parent


def put(url: str, text: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (text text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [text])


def kept(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM kept ORDER BY text")]


# -- an ordinary life ------------------------------------------------------------------------------


def test_starts_answers_and_leaves_nothing_behind(server: EmbeddedPostgres, home: Path) -> None:
    server.stop()  # before any start: nothing to do
    assert attach(home) is None
    server.start()
    assert attach(home) == server.url
    put(server.url, "one")
    pid, keeper = server.pid, guard_of(server.pid)
    server.stop()
    server.stop()
    assert attach(home) is None
    assert not psutil.pid_exists(pid)
    assert not keeper.is_running()
    assert not server.is_running()


def test_a_restart_keeps_data_port_and_password(server: EmbeddedPostgres) -> None:
    url = server.start().url
    put(url, "one")
    server.stop()
    assert server.start().url == url
    assert kept(url) == ["one"]


def test_start_twice_is_one_server(server: EmbeddedPostgres) -> None:
    pid = server.start().pid
    assert server.start().pid == pid


def test_only_loopback_and_only_with_the_password(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    parts = urlsplit(server.url)
    assert parts.hostname == "127.0.0.1"
    assert len(parts.password or "") >= 32
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(server.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    assert (home / "password").stat().st_mode & 0o777 == 0o600
    assert (home / "pg").stat().st_mode & 0o777 == 0o700
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.url.replace(parts.password or "", "guessed"))
    # Ctrl-C in the terminal reaches the application, and not the server under it.
    assert os.getsid(server.pid) != os.getsid(0)


def test_extra_settings_reach_the_server(home: Path) -> None:
    settings = {"max_connections": "33"}
    with (
        EmbeddedPostgres(home, bin_dir=bin_dir(), durable=True, settings=settings) as server,
        psycopg.connect(server.url) as connection,
    ):
        shown = [
            connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            for name in ("max_connections", "fsync", "synchronous_commit", "jit")
        ]
    assert shown == [("33",), ("on",), ("on",), ("off",)]


# -- killed ----------------------------------------------------------------------------------------


def test_a_killed_postmaster_starts_again_with_its_data(home: Path) -> None:
    server = EmbeddedPostgres(home, bin_dir=bin_dir())  # durable: a crash is what it must survive
    with server:
        for round_ in ("one", "two"):
            put(server.url, round_)
            os.kill(server.pid, signal.SIGKILL)
            server.start()
        assert kept(server.url) == ["one", "two"]


def test_the_server_stops_when_its_user_is_killed(home: Path, children: ExitStack) -> None:
    child = start_child(children, home)
    pid, _ = child.started()
    keeper = guard_of(pid)
    child.kill()
    assert gone(home)
    psutil.wait_procs([keeper], timeout=END_S)
    assert not keeper.is_running() or keeper.status() == psutil.STATUS_ZOMBIE


def test_starts_while_the_guard_of_a_killed_user_still_stops_it(
    server: EmbeddedPostgres, home: Path, children: ExitStack
) -> None:
    for _ in range(3):
        child = start_child(children, home)
        child.started()
        child.kill()
        server.start()
        put(server.url, "again")
        server.stop()
    assert gone(home)


def test_an_orphan_is_adopted_and_guarded_again(server: EmbeddedPostgres, home: Path, children: ExitStack) -> None:
    child = start_child(children, home)
    pid, url = child.started()
    guard_of(pid).kill()
    child.kill()
    assert psutil.pid_exists(pid)  # nobody is left who could stop it
    server.start()
    assert (server.pid, server.url) == (pid, url)
    server.stop()
    assert gone(home)
    # And one that is adopted by a process that is then killed as well.
    child = start_child(children, home)
    pid, _ = child.started()
    guard_of(pid).kill()
    child.kill()
    child = start_child(children, home)
    assert child.started()[0] == pid
    child.kill()
    assert gone(home)


def test_a_stale_pid_that_now_is_another_program_does_no_harm(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    os.kill(server.pid, signal.SIGKILL)
    assert gone(home)
    file = home / "pg" / "postmaster.pid"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    server.start()
    assert server.pid != os.getpid()


def test_an_interrupted_initdb_is_done_again(server: EmbeddedPostgres, home: Path, children: ExitStack) -> None:
    child = start_child(children, home)
    assert guard.wait_until(lambda: any(home.glob("init-*/pg/*")), END_S)
    os.killpg(child.process.pid, signal.SIGKILL)
    child.kill()
    assert not (home / "pg").exists()
    put(server.start().url, "one")
    assert not list(home.glob("init-*"))


# -- company ---------------------------------------------------------------------------------------


def test_two_starters_at_once_share_one_server(home: Path, children: ExitStack) -> None:
    one, two = start_child(children, home), start_child(children, home)
    assert one.started() == two.started()
    one.leave()
    url = attach(home)
    assert url is not None
    put(url, "still there")
    two.leave()
    assert attach(home) is None


def test_a_taken_port_is_changed(server: EmbeddedPostgres) -> None:
    before = server.start().port
    server.stop()
    with socket.create_server(("127.0.0.1", before)):
        assert server.start().port != before


def test_a_port_that_was_asked_for_is_not_changed(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(EmbeddedFailed, match=f"port {port} is in use"):
            EmbeddedPostgres(home, bin_dir=bin_dir(), port=port, durable=False).start()
    with EmbeddedPostgres(home, bin_dir=bin_dir(), port=port, durable=False) as server:
        assert server.port == port


# -- accounts --------------------------------------------------------------------------------------

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change accounts")


@as_root
def test_for_root_it_runs_as_somebody_else(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    assert psutil.Process(server.pid).uids().real != 0
    assert (home / "pg").stat().st_uid == psutil.Process(server.pid).uids().real


@as_root
def test_for_root_programs_out_of_reach_are_copied(home: Path) -> None:
    if bin_dir() is not None:
        pytest.skip("a given folder is used as it is")
    package = binaries._package_folder()
    copy = binaries._copy(package, home) / "pginstall" / "bin"
    assert binaries._major(copy, binaries.find_account()) is not None


@as_root
def test_for_root_a_folder_out_of_reach_is_refused_in_words(home: Path) -> None:
    home.mkdir(mode=0o700)
    with pytest.raises(EmbeddedFailed, match="cannot enter"):
        EmbeddedPostgres(home / "inner", bin_dir=bin_dir()).start()


@as_root
def test_a_folder_of_another_user_is_refused(home: Path) -> None:
    home.mkdir()
    os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
    with pytest.raises(EmbeddedFailed, match="not a folder of this user's own"):
        EmbeddedPostgres(home, bin_dir=bin_dir()).start()
    assert attach(home) is None


@as_root
def test_runs_for_a_normal_user_too(children: ExitStack, home: Path) -> None:
    account = pwd.getpwnam("nobody")
    home.mkdir()
    os.chown(home, account.pw_uid, account.pw_gid)
    options = {
        "user": account.pw_uid,
        "group": account.pw_gid,
        "extra_groups": [],
        "cwd": "/",
        "env": {
            "PATH": os.defpath,
            "HOME": "/nonexistent",
            "PYTHONPATH": f"{ROOT / 'src'}:{sysconfig.get_path('purelib')}",
        },
    }
    python = _python_for_others(options)
    if python is None:
        pytest.skip("no Python here that another account can run (all under root's home)")
    child = start_child(children, home, python=python, **options)
    pid, url = child.started()
    assert psutil.Process(pid).uids().real == account.pw_uid
    put(url, "one")
    child.leave()
    child = start_child(children, home, python=python, **options)
    child.started()
    child.kill()
    assert gone(home)


def _python_for_others(options: dict[str, object]) -> str | None:
    """One of our minor version: the compiled packages of the venv have to load."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    code = "import psycopg, goqueue.cli.dev.embedded as e; e.find_binaries"
    for python in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        try:
            result = subprocess.run([python, "-c", code], capture_output=True, **options)  # type: ignore[call-overload]  # as above
        except OSError:
            continue
        if result.returncode == 0:
            return python
    return None


# -- refused ---------------------------------------------------------------------------------------


def test_without_a_postgresql_it_says_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(EmbeddedUnavailable, match=r"goqueue\[dev\].*GOQUEUE_URL"):
        EmbeddedPostgres(home).start()


def test_a_cluster_of_another_version_is_refused(server: EmbeddedPostgres, home: Path) -> None:
    server.start()
    server.stop()
    (home / "pg" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedFailed, match="was made by PostgreSQL 9"):
        server.start()


def test_a_server_that_cannot_start_shows_its_log(home: Path) -> None:
    broken = {"shared_buffers": "many"}
    with pytest.raises(EmbeddedFailed, match="shared_buffers"):
        EmbeddedPostgres(home, bin_dir=bin_dir(), durable=False, settings=broken).start()


def test_the_default_place_belongs_to_the_project(home: Path) -> None:
    inner = home / "project" / "inner"
    inner.mkdir(parents=True)
    (home / "project" / "pyproject.toml").touch()
    assert default_data_dir(inner) == default_data_dir(home / "project")
    assert default_data_dir(inner) != default_data_dir(home)
