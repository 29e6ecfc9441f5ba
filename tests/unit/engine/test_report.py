"""What the engine logs of an attempt that is not a plain success."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock

import pytest
from structlog.testing import capture_logs

from goqueue.engine import report as report_module
from goqueue.engine.report import LINES_MAX, WINDOW_S, Reporter, report
from goqueue.engine.worker import Worker
from goqueue.model.job import ErrorInfo
from goqueue.model.outcome import Cancel, Complete, Crash, Dead, Outcome, Release, Retry, Snooze
from goqueue.tasks.app import GoQueue
from goqueue.tasks.retry import RetryPolicy
from goqueue.tasks.signals import CancelJob, SnoozeJob
from tests.unit.engine.faults import FaultyStore, quick
from tests.unit.engine.test_verdict import lease

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

ERROR = ErrorInfo("pkg.Broken", "first line\nsecond line", "Traceback …\npkg.Broken: first line\n")
JOB = {"job_id": "x", "kind": "anything", "queue": "default", "attempt": 3, "max_attempts": 20}
TOLD = {"error_type": "pkg.Broken", "error": "first line"}

TABLE = [
    (Retry(2.00049, ERROR), {"event": "retry", "log_level": "warning", **TOLD, "delay_s": 2.0}),
    (
        Dead(ERROR, "not_retryable"),
        {"event": "dead", "log_level": "error", **TOLD, "reason": "not_retryable", "stack": ERROR.traceback.rstrip()},
    ),
    (Crash(ERROR), {"event": "crash", "log_level": "error", **TOLD, "crashes": 1, "max_crashes": None}),
    (Snooze(5.0, "later"), {"event": "snooze", "log_level": "debug", "reason": "later", "delay_s": 5.0}),
    (Cancel("unwanted"), {"event": "cancel", "log_level": "info", "reason": "unwanted"}),
]


@pytest.mark.parametrize("outcome,line", TABLE, ids=[type(outcome).__name__ for outcome, _ in TABLE])
def test_one_line_with_the_job_and_what_became_of_it(outcome: Outcome, line: dict[str, object]) -> None:
    with capture_logs() as logs:
        report(lease(attempt=3), outcome)
    assert logs == [{**JOB, **line}]


@pytest.mark.parametrize(
    "more, event",
    [
        ({"crashes": 1, "max_crashes": 3}, "crash"),
        ({"crashes": 2, "max_crashes": 3}, "dead"),
        ({"max_crashes": 1}, "dead"),
        ({"attempt": 20}, "dead"),
    ],
)
def test_the_last_crash_is_a_death(more: dict[str, Any], event: str) -> None:  # Any: fields of a lease
    with capture_logs() as logs:
        report(lease(**({"attempt": 3} | more)), Crash(ERROR))
    (line,) = logs
    assert (line["event"], line.get("reason")) == (event, "crashed" if event == "dead" else None)
    assert (line["crashes"], line["max_crashes"]) == (more.get("crashes", 0) + 1, more.get("max_crashes"))


def test_nothing_is_said_of_what_is_handed_back_or_complete() -> None:
    with capture_logs() as logs:
        report(lease(), Release())
        report(lease(), Complete(b"1"))
    assert logs == []


def test_an_error_without_words_has_an_empty_one() -> None:
    with capture_logs() as logs:
        report(lease(), Retry(1.0, ErrorInfo("ValueError", "")))
    assert logs[0]["error"] == ""


async def test_a_worker_says_it_once_for_each_attempt() -> None:
    app = GoQueue(retry=RetryPolicy.fixed(3600.0))

    @app.task
    async def fine() -> int:
        return 1

    @app.task
    async def fail() -> None:
        raise ValueError("no")

    @app.task(max_attempts=1)
    def fail_for_good() -> None:
        raise ValueError("no")

    @app.task
    async def later() -> None:
        raise SnoozeJob(60.0)

    @app.task
    async def unwanted() -> None:
        raise CancelJob("unwanted")

    store = FaultyStore()
    tasks = (fine, fail, fail_for_good, later, unwanted)
    ids = await store.enqueue(*(task.job() for task in tasks))
    with capture_logs() as logs:
        await Worker(app, store, quick()).run_until_idle()
    lines = [line for line in logs if "job_id" in line]
    told = sorted((line["job_id"], line["event"], line["kind"]) for line in lines)
    assert told == sorted(
        (id, event, task.kind)
        for id, task, event in zip(ids[1:], tasks[1:], ("retry", "dead", "snooze", "cancel"), strict=True)
    )
    (dead,) = [line for line in lines if line["event"] == "dead"]
    assert "fail_for_good" in dead["stack"]


class Loop:
    """Timers that ring when the test says so."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], None]] = []

    def call_later(self, delay_s: float, ring: Callable[[], None]) -> Mock:
        assert delay_s == WINDOW_S
        self.timers.append(ring)
        return Mock()


def test_a_flood_of_failures_is_a_bounded_number_of_lines_and_a_count() -> None:
    loop = Loop()
    reporter = Reporter(cast("asyncio.AbstractEventLoop", loop))
    with capture_logs() as logs:
        for _ in range(1_000):
            reporter.report(lease(), Retry(1.0, ERROR))
            reporter.report(lease(kind="other"), Cancel("unwanted"))
            reporter.report(lease(), Complete(b"1"))
        assert [line["event"] for line in logs] == ["retry", "cancel"] * LINES_MAX
        (ring,) = loop.timers
        ring()
        counts = [(line["outcome"], line["kind"], line["lines"]) for line in logs[2 * LINES_MAX :]]
        assert counts == [("retry", "anything", 1_000 - LINES_MAX), ("cancel", "other", 1_000 - LINES_MAX)]
        del logs[:]
        reporter.report(lease(), Retry(1.0, ERROR))
        assert [line["event"] for line in logs] == ["retry"]
        loop.timers[1]()
        assert len(logs) == 1
        reporter.close()
        assert len(logs) == 1


def test_what_was_left_out_is_told_at_the_end_and_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "WINDOWS_MAX", 5)
    reporter = Reporter(cast("asyncio.AbstractEventLoop", Loop()))
    with capture_logs() as logs:
        for n in range(100):
            reporter.report(lease(kind=str(n)), Retry(1.0, ERROR))
        assert len(logs) == 5 + LINES_MAX
        reporter.close()
        reporter.close()
    assert [(line["kind"], line["lines"]) for line in logs[5 + LINES_MAX :]] == [("others", 95 - LINES_MAX)]
