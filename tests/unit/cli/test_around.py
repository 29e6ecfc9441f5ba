"""Who runs a job, or why nobody takes it: by the store's clock, whatever that of this machine says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from goqueue.cli.around import who_runs, why_it_waits
from goqueue.model.job import JobRecord
from goqueue.model.lease import WorkerRecord
from goqueue.model.state import JobState


def worker(*, left_s: float, skew_s: float = 0.0, draining: bool = False) -> WorkerRecord:
    now = datetime.now(UTC) + timedelta(seconds=skew_s)
    return WorkerRecord(
        id="w",
        name="one",
        host="h",
        pid=7,
        version="1",
        queues=("default",),
        kinds=("mail",),
        concurrency=1,
        running=0,
        idle=True,
        draining=draining,
        started_at=now,
        beat_at=now,
        expires_at=now + timedelta(seconds=left_s),
        left_s=left_s,
    )


def job(state: JobState, kind: str = "mail") -> JobRecord:
    now = datetime.now(UTC)
    return JobRecord(
        id="j",
        kind=kind,
        args=msgspec.Raw(b"{}"),
        queue="default",
        priority=5,
        state=state,
        attempt=0,
        max_attempts=20,
        crashes=0,
        max_crashes=3,
        run_at=now,
        created_at=now,
        worker_id="w" if state is JobState.RUNNING else None,
    )


@pytest.mark.parametrize("skew_s", [-600.0, 0.0, 600.0])
def test_a_worker_lives_or_not_by_the_clock_of_the_store(skew_s: float) -> None:
    lives, dead = worker(left_s=20.0, skew_s=skew_s), worker(left_s=-5.0, skew_s=skew_s)
    ready = job(JobState.READY)
    assert why_it_waits(ready, [lives], paused=False) == ""
    assert why_it_waits(ready, [dead], paused=False) == "no worker takes from queue default"
    assert who_runs(job(JobState.RUNNING), [lives]).startswith("one on h, pid 7")
    assert "gone" in who_runs(job(JobState.RUNNING), [dead])


def test_a_worker_that_stops_takes_nothing_but_runs_what_it_has() -> None:
    stops = worker(left_s=20.0, draining=True)
    assert why_it_waits(job(JobState.READY), [stops], paused=False) == "no worker takes from queue default"
    assert who_runs(job(JobState.RUNNING), [stops]).startswith("one on h, pid 7")
    other = why_it_waits(job(JobState.READY, "other"), [worker(left_s=20.0)], paused=False)
    assert other == "no worker that takes from queue default has a task of kind other"
