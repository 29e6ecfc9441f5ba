"""What the tests of where clients live share: an application, scripts, forked children, the server's view."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from goqueue.tasks.app import GoQueue
from goqueue.wiring import Client
from tests.support.processes import until

DEADLINE_S = 60.0
app = GoQueue()


@app.task
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


SCRIPT = """
import os
from goqueue import {client}, GoQueue

app = GoQueue()
client = {client}(app)  # opens nothing

@app.task
def add(a: int, b: int = 1) -> int:
    return a + b

"""


def script(url: str, folder: Path, text: str, *, client: str = "Client") -> subprocess.CompletedProcess[str]:
    """Run a script that has a client as a module global, with all warnings shown."""
    path = folder / "script.py"
    path.write_text(SCRIPT.format(client=client) + text)
    env = {name: value for name, value in os.environ.items() if not name.startswith("GOQUEUE_")}
    return subprocess.run(
        [sys.executable, "-W", "always", str(path)],
        env={**env, "GOQUEUE_URL": url},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=folder,
    )


def in_fork(work: Callable[[], object]) -> int:
    """Do ``work`` in a forked child; return its exit code: 0 if it raised nothing."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
        finally:
            os._exit(code)
    return ended(pid)


def ended(pid: int) -> int:
    """Wait for a child, not for ever."""
    found: list[int] = []

    def look() -> bool:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            found.append(os.waitstatus_to_exitcode(status))
        return bool(done)

    if not until(look):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return -signal.SIGKILL
    return found[0]


def backends(url: str) -> set[int]:
    """The server's processes for GoQueue's connections to this database."""
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'goqueue'"
        )
        return {pid for (pid,) in rows}


def stored(url: str) -> list[str]:
    with Client(app, url) as other:
        return [job.id for job in other.iterate()]
