"""Commands in process groups of their own, with a log and a certain end; and what the machine's CPUs did meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STOP_S = 15.0
QUIET_SHARE = 0.08
LOG_TAIL_BYTES = 2_000


class Failed(Exception):
    """A process of the bench did not do its part; the text ends with its log."""


class Group:
    """One command and all its children."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment_of(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.id = self._process.pid

    def require_alive(self) -> None:
        """Raise `Failed` if the command has ended."""
        if self._process.poll() is not None:
            raise Failed(f"{self._process.args!r} ended with {self._process.returncode}")

    def wait(self, timeout_s: float) -> None:
        """Wait for its good end."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self._process.args!r} took more than {timeout_s:.0f} s") from None
        if code != 0:
            raise Failed(f"{self._process.args!r} ended with {code}")

    def stop(self) -> None:
        """Ask the command to stop, then end whatever is left of its group."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
            os.killpg(self.id, signal.SIGKILL)
        self._process.wait()


@contextmanager
def running(commands: Sequence[Sequence[str]], *, environment: Mapping[str, str], log: Path) -> Iterator[list[Group]]:
    """Groups that live as long as the block."""
    groups: list[Group] = []
    try:
        for command in commands:
            groups.append(Group(command, environment=environment, log=log))  # noqa: PERF401  each must be stopped
        yield groups
    except Failed as error:  # what these said may be why
        raise Failed(f"{error}\n--- {log.name} ends with:\n{_tail(log)}") from error
    finally:
        for group in groups:
            group.stop()


def call(command: Sequence[str], *, environment: Mapping[str, str], timeout_s: float) -> str:
    """Run a command to its good end and return what it printed."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment_of(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{command!r} took more than {timeout_s:.0f} s") from None
    if done.returncode != 0:
        raise Failed(f"{command!r} ended with {done.returncode}\n{done.stderr[-LOG_TAIL_BYTES:]}")
    return done.stdout


def environment_of(more: Mapping[str, str]) -> dict[str, str]:
    """Ours without any settings of GoQueue's, so that its defaults are measured, and ``more``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GOQUEUE_")}
    return {**clean, "PYTHONPATH": str(ROOT), **more}


def _tail(log: Path) -> str:
    with suppress(OSError):
        return log.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace")
    return ""


# -- what the machine does (Linux only: elsewhere None) -------------------------------------------


def machine_busy_s() -> float | None:
    """CPU seconds since boot that the machine's cores were not idle."""
    try:
        fields = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _wait, hard, soft, _steal = (int(field) for field in fields)
    return (user + nice + system + hard + soft) / os.sysconf("SC_CLK_TCK")


def groups_busy_s(groups: Sequence[Group]) -> float | None:
    """CPU seconds that the processes of these groups have used."""
    if not Path("/proc/stat").exists():
        return None
    fields = _members(groups).values()
    return sum(int(number) for one in fields for number in one[11:15]) / os.sysconf("SC_CLK_TCK")


def groups_memory_bytes(groups: Sequence[Group]) -> int:
    """The memory that is these groups' processes' own; 0 where it cannot be told.

    Without pages of files: the stamps are one, of eight bytes a job, and would look like growth.
    """
    return sum(_anonymous_bytes(pid) for pid in _members(groups))


def _members(groups: Sequence[Group]) -> dict[str, list[str]]:
    """The processes of the groups by id, each with its `/proc/…/stat` from the third field on."""
    ids = {group.id for group in groups}
    found: dict[str, list[str]] = {}
    for entry in Path("/proc").iterdir() if Path("/proc/stat").exists() else ():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text("utf-8", "replace").rsplit(")", 1)[1].split()
                if int(fields[2]) in ids:
                    found[entry.name] = fields
    return found


def _anonymous_bytes(pid: str) -> int:
    with suppress(OSError):
        for line in Path("/proc", pid, "status").read_text("utf-8", "replace").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def wait_until_quiet(timeout_s: float) -> float:
    """Wait until the machine has nothing else to do; return the share of it that was busy when the wait ended."""
    cores = os.cpu_count() or 1
    deadline = time.monotonic() + timeout_s
    while True:
        before = machine_busy_s()
        time.sleep(0.3)
        after = machine_busy_s()
        if before is None or after is None:
            return 0.0
        share = (after - before) / 0.3 / cores
        if share < QUIET_SHARE or time.monotonic() > deadline:
            return share
