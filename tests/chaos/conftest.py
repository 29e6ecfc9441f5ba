"""Fixtures of the fault suite: seed, scale, and a table of what came of it.

``GOQUEUE_CHAOS_SEED`` repeats a seed, ``GOQUEUE_CHAOS_SCALE=full`` is what `make chaos` sets, ``GOQUEUE_CHAOS_REPORT``
names the JSON file to write.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.chaos.harness import Chaos, chaos_on


def _told(name: str) -> str:
    """What the variable says, here and in the processes that pytest-xdist starts; the code under test does not see it.

    GoQueue refuses variables that it does not know.
    """
    kept = f"KEPT_{name}"
    os.environ[kept] = os.environ.pop(name, os.environ.get(kept, ""))
    return os.environ[kept]


SEED = int(_told("GOQUEUE_CHAOS_SEED") or random.SystemRandom().randrange(2**32))
os.environ["KEPT_GOQUEUE_CHAOS_SEED"] = str(SEED)
FULL = _told("GOQUEUE_CHAOS_SCALE") == "full"
REPORT = _told("GOQUEUE_CHAOS_REPORT")

HERE = Path(__file__).parent
SHORT_TIMEOUT_S, FULL_TIMEOUT_S = 120, 600


@dataclass
class Row:
    """One test in the table."""

    fault: int
    test: str
    seed: int
    jobs: int = 0
    verdict: str = ""
    seconds: float = 0.0


_rows: dict[str, Row] = {}
"""Of the tests that this process runs."""
_told_rows: dict[str, Row] = {}
"""Of all tests, by what their reports say."""
ROW = "row"
_passed = pytest.StashKey[bool]()


class MakeChaos(Protocol):
    """Make a `Chaos` on a database with the schema: ``with make_chaos(url, **variables) as chaos``."""

    def __call__(self, url: str, **variables: str) -> AbstractContextManager[Chaos]: ...


@pytest.fixture
def make_chaos(request: pytest.FixtureRequest, tmp_path: Path) -> MakeChaos:
    """For tests with a server of their own. Counts its jobs for the table."""

    @contextmanager
    def make(url: str, **variables: str) -> Iterator[Chaos]:
        name = request.node.name
        print(f"\n{name}: seed {SEED} (again with GOQUEUE_CHAOS_SEED={SEED})")
        with chaos_on(url, tmp_path, seed=SEED, name=name, full=FULL, variables=variables) as chaos:
            try:
                yield chaos
                assert chaos.checked, "a test of the fault suite ends with chaos.check()"
            finally:
                if row := _rows.get(request.node.nodeid):
                    row.jobs += chaos.jobs_sent

    return make


@pytest.fixture
def chaos(request: pytest.FixtureRequest, make_chaos: MakeChaos, database_url: str) -> Iterator[Chaos]:
    """A Chaos on a database of the test's own."""
    with make_chaos(database_url) as one:
        yield one
        if not request.node.stash.get(_passed, False):
            # It has failed already: say that, and not what it did not come to.
            one.checked = True
            one.place.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker("chaos")
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(FULL_TIMEOUT_S if FULL else SHORT_TIMEOUT_S))
    if not FULL:
        left_out = [item for item in ours if item.get_closest_marker("full")]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if HERE in item.path.parents and (number := re.match(r"test_(\d\d)_", item.name)):
        _rows[item.nodeid] = Row(int(number[1]), item.name, SEED, seconds=time.monotonic())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None] | pytest.TestReport:  # a wrapper returns what it was sent
    report: pytest.TestReport = yield  # type: ignore[assignment, misc]  # pluggy sends the report
    if call.when == "call":
        item.stash[_passed] = report.passed
    if row := _rows.get(item.nodeid):
        if report.failed or not row.verdict:
            row.verdict = report.outcome
        if call.when == "teardown":
            row.seconds = round(time.monotonic() - row.seconds, 1)
            report.user_properties.append((ROW, asdict(row)))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, value in report.user_properties:
        if name == ROW and isinstance(value, dict):
            _told_rows[report.nodeid] = Row(**value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    rows = sorted(_told_rows.values(), key=lambda row: (row.fault, row.test))
    if not rows:
        return
    if FULL or exitstatus != 0:
        terminalreporter.section("faults")
        terminalreporter.write_line(f"{'fault':>5} {'seed':>10} {'jobs':>6} {'verdict':8} {'s':>6}  test")
        for row in rows:
            terminalreporter.write_line(
                f"{row.fault:>5} {row.seed:>10} {row.jobs:>6} {row.verdict:8} {row.seconds:>6.1f}  {row.test}"
            )
    if REPORT:
        path = Path(REPORT)
        path.parent.mkdir(parents=True, exist_ok=True)
        report = {"seed": SEED, "scale": "full" if FULL else "short", "faults": [asdict(row) for row in rows]}
        path.write_text(json.dumps(report, indent=2) + "\n")
        terminalreporter.write_line(f"written to {REPORT}")
