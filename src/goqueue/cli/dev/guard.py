"""Parent of the embedded PostgreSQL: stops it when the last process that uses it has gone.

Run as a script, by path, with the standard library only (`python -I -S guard.py JSON`), so that it
starts in milliseconds and needs nothing that a `kill -9` of the application can take away.

Who uses the server is who holds a *shared* `flock` on the file `holders`. The kernel gives it up for
a process however that ends, so the guard only waits for the *exclusive* lock: getting it means that
nobody is left. It keeps it while it stops the server, and who comes in that moment waits.
The file `cluster` is locked by an open file that every process of the server inherits: it is free
exactly when all of them are gone, which no process id can tell (ids are used again).
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TypedDict

HOLDERS, CLUSTER, GUARD = "holders.lock", "cluster.lock", "guard.lock"
FAST_S, IMMEDIATE_S, KILL_S = 20.0, 5.0, 5.0
POLL_S = 0.02


class Spec(TypedDict):
    """What the guard is started with."""

    home: str
    command: list[str]
    cwd: str
    uid: int | None
    gid: int | None
    adopt: int | None


def open_lock(path: str) -> int:
    """A descriptor of a lock file (made if absent), not inherited by children."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int, mode: int) -> bool:
    """Take the lock now or not at all. A refused change of mode gives up the lock that was held."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(path: str) -> bool:
    """Does nobody hold the exclusive lock on this file?"""
    descriptor = open_lock(path)
    try:
        return try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll a condition; False when it has not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def stop_postmaster(pid: int, gone: Callable[[float], bool]) -> bool:
    """Fast shutdown, then immediate, then kill; `gone(timeout_s)` waits for the end."""
    for number, timeout_s in (
        (signal.SIGINT, FAST_S),
        (signal.SIGQUIT, IMMEDIATE_S),
        (signal.SIGKILL, KILL_S),
    ):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return gone(KILL_S)
        if gone(timeout_s):
            return True
    return False


def main(spec: Spec) -> int:
    """Run (or adopt) the server until it ends or nobody uses it any more."""
    home = spec["home"]
    guard = open_lock(os.path.join(home, GUARD))  # noqa: PTH118 - pathlib costs 10 ms of start-up
    if not wait_until(lambda: try_lock(guard, fcntl.LOCK_EX), KILL_S):
        return 3
    events: queue.SimpleQueue[str] = queue.SimpleQueue()
    # Ctrl-C is for the application, which then lets go; a polite kill of the guard stops the server.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: events.put("unused"))

    cluster = os.path.join(home, CLUSTER)  # noqa: PTH118
    ended = threading.Event()
    pid, wait = _adopt(spec["adopt"], cluster) if spec["adopt"] else _spawn(spec, cluster)

    def watch_server() -> None:
        wait()
        ended.set()
        events.put("ended")

    def watch_holders() -> None:
        fcntl.flock(open_lock(os.path.join(home, HOLDERS)), fcntl.LOCK_EX)  # noqa: PTH118
        events.put("unused")

    for target in (watch_server, watch_holders):
        threading.Thread(target=target, daemon=True).start()
    if events.get() == "unused":
        stop_postmaster(pid, ended.wait)
    wait_until(lambda: is_free(cluster), KILL_S)
    return 0


def _spawn(spec: Spec, cluster: str) -> tuple[int, Callable[[], object]]:
    lock = open_lock(cluster)
    if not wait_until(lambda: try_lock(lock, fcntl.LOCK_EX), KILL_S):
        os._exit(4)
    process = subprocess.Popen(
        spec["command"],
        cwd=spec["cwd"],
        stdin=subprocess.DEVNULL,
        user=spec["uid"],
        group=spec["gid"],
        extra_groups=None if spec["uid"] is None else [],
        umask=0o077,
        pass_fds=[lock],
    )
    os.close(lock)  # from here on it is the server's alone
    return process.pid, process.wait


def _adopt(pid: int, cluster: str) -> tuple[int, Callable[[], object]]:
    def wait() -> None:
        lock = open_lock(cluster)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.close(lock)

    return pid, wait


if __name__ == "__main__":
    # Without the interpreter's own ending, which would wait for the thread that waits for a lock.
    os._exit(main(json.loads(sys.argv[1])))
