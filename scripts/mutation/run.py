"""Running tests against a copy of the package in which one guard is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from scripts.mutation.guard import EVERYTHING, PACKAGE, ROOT, Guard

AT_A_TIME: Final = 2
"""Runs of tests side by side."""
TEST_S: Final = 30
"""A test that takes longer has failed: it waits for a row that the guard would have passed over."""
NAMED_S: Final = 180
"""For the tests that a guard names."""
EVERYTHING_S: Final = 900
"""For all of them."""
NO_TESTS: Final = 5
OUTPUT_LINES: Final = 15


class Verdict(StrEnum):
    """What became of a mutation."""

    KILLED = "killed"
    SURVIVED = "survived"
    EQUIVALENT = "equivalent"
    BROKEN = "broken"


@dataclass(frozen=True)
class Result:
    """The verdict on one guard. `by` is the test that missed it, or what is to be said instead."""

    guard: Guard
    verdict: Verdict
    by: str
    seconds: float = 0.0
    in_time: bool = True
    """Whether the tests that the guard names were enough."""


@contextmanager
def copied_package(source: Path = PACKAGE) -> Iterator[Path]:
    """A folder to put first on the path, with a copy of the package (with its compiled files: they stay good)."""
    with tempfile.TemporaryDirectory(prefix="goqueue-mutation-") as folder:
        shutil.copytree(source, Path(folder) / "goqueue")
        yield Path(folder)


def run_tests(copy: Path, server: Path, paths: tuple[str, ...], expression: str, limit_s: float) -> tuple[int, str]:
    """Run tests against a copy on a server that runs in the folder `server`: exit code, and the end of the output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOQUEUE_", "PYTEST_"))}
    environment |= {
        "PYTHONPATH": str(copy),
        "MUTATION_COPY": str(copy),
        "GOQUEUE_TEST_SERVER": str(server),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # hundreds of runs: what they do not need, they do not load
    }
    command = [sys.executable, "-m", "pytest", *paths, "-p", "scripts.mutation.plugin", "-p", "no:cacheprovider", "-qx"]
    command += ["-p", "pytest_asyncio.plugin", "-p", "pytest_timeout"]
    command += [f"--timeout={TEST_S}", "--timeout-method=signal", "--tb=line", "-k", expression]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = 1
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        lines = output.read().decode(errors="replace").splitlines()
    return code, "\n".join(lines[-OUTPUT_LINES:])


def try_guard(guard: Guard, snapshot: Path, server: Path, *, everything: bool = True) -> Result:
    """Drop one guard from a copy of the snapshot of the package, and see who misses it."""
    if guard.equivalent:
        return Result(guard, Verdict.EQUIVALENT, guard.equivalent)
    started = time.monotonic()
    runs: list[tuple[tuple[str, ...], str, int]] = [((guard.at,), guard.tests, NAMED_S)] if guard.tests else []
    if everything:
        runs.append((EVERYTHING, "", EVERYTHING_S))
    with copied_package(snapshot / "goqueue") as copy:
        guard.drop(copy / "goqueue")
        for number, (paths, expression, limit_s) in enumerate(runs):
            code, output = run_tests(copy, server, paths, expression, limit_s)
            seconds = time.monotonic() - started
            if code == 1:
                killer = copy / "killer"
                by = killer.read_text(encoding="utf-8") if killer.exists() else "the deadline of the run"
                return Result(guard, Verdict.KILLED, by, seconds, in_time=number == 0)
            if code != 0:
                told = f"no test of {guard.at} is called {expression}" if code == NO_TESTS else output
                return Result(guard, Verdict.BROKEN, told, seconds)
    return Result(guard, Verdict.SURVIVED, "nobody", time.monotonic() - started)


def control(guards: list[Guard], snapshot: Path, server: Path) -> str:
    """Run the tests that these guards name against the package as it is; return what failed, empty if nothing did."""

    def run(at: str) -> str:
        names = sorted({g.tests for g in guards if g.at == at and g.tests})
        if not names:
            return ""
        code, output = run_tests(snapshot, server, (at,), " or ".join(f"({n})" for n in names), EVERYTHING_S)
        return f"the package as it is does not pass {at}:\n{output}" if code else ""

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return "\n".join(filter(None, pool.map(run, EVERYTHING)))
