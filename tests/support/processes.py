"""`goqueue` as real processes: their output awaited line by line, and nothing of theirs left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

DEADLINE_S = 60.0
MARK = "GOQUEUE_TEST_MARK"


class Process:
    """One `goqueue` command. ``wait_for`` waits for a line of its output, ``end`` for its end."""

    def __init__(self, arguments: list[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        self.arguments = arguments
        self._lines: list[str] = []
        self._seen = 0
        self._news = threading.Condition()
        self._closed = False
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "goqueue", *arguments],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def output(self) -> str:
        with self._news:
            return "".join(self._lines)

    def wait_for(self, pattern: str, timeout_s: float = DEADLINE_S) -> re.Match[str]:
        """Wait for the next line that matches; lines before it are not looked at again."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                while self._seen < len(self._lines):
                    line = self._lines[self._seen]
                    self._seen += 1
                    if found := re.search(pattern, line):
                        return found
                left_s = deadline - time.monotonic()
                assert not self._closed, f"{self.arguments} ended without {pattern!r}:\n{''.join(self._lines)}"
                assert left_s > 0, f"no {pattern!r} from {self.arguments} in {timeout_s} s:\n{''.join(self._lines)}"
                self._news.wait(left_s)

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def end(self, timeout_s: float = DEADLINE_S) -> int:
        """Wait for its end; its exit code."""
        try:
            code = self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.arguments} did not end in {timeout_s} s:\n{self.output}") from None
        self._reader.join(timeout_s)
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.send(number)
        return self.end()

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait(DEADLINE_S)
        if self.popen.stdout is not None:
            self._reader.join(DEADLINE_S)
            self.popen.stdout.close()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()


class Bench:
    """Starts commands in one folder with one environment."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GOQUEUE_")}
        self.env = {**inherited, "PYTHONUNBUFFERED": "1", MARK: self.mark, **variables}
        self._started: list[Process] = []

    def start(self, *arguments: str, **variables: str) -> Process:
        process = Process(list(arguments), cwd=self.folder, env={**self.env, **variables})
        self._started.append(process)
        return process

    def run(self, *arguments: str, stdin: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "goqueue", *arguments],
            cwd=self.folder,
            env={**self.env, **variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )

    def left(self) -> list[psutil.Process]:
        """All processes that any of these commands has started, and their children, that still live."""
        return [process for process in psutil.process_iter() if _is_marked(process, self.mark)]

    def close(self) -> None:
        for process in self._started:
            process.popen.kill()
        left = self.left()
        for straggler in left:
            straggler.kill()
        psutil.wait_procs(left, timeout=DEADLINE_S)
        for process in self._started:  # whoever holds their output has gone
            process.close()


@contextmanager
def bench(folder: Path, **variables: str) -> Iterator[Bench]:
    """A `Bench`; whatever the test leaves is killed, and a test that leaves something fails."""
    one = Bench(folder, **variables)
    try:
        yield one
        for process in one._started:
            assert process.popen.poll() is not None, f"{process.arguments} was not ended by the test"
        assert until(lambda: not one.left()), f"left behind: {[p.cmdline() for p in one.left()]}"
    finally:
        one.close()


def until(condition: Callable[[], object], timeout_s: float = DEADLINE_S, step_s: float = 0.02) -> bool:
    """Poll what has no signal to wait for (another process's death, a row); False if it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step_s)
    return True


def _is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False
