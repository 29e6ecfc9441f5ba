"""A poison job among others, under a real supervisor with real processes: it dies alone (FAULTS 7)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from goqueue.model.job import NewJob
from goqueue.model.state import JobState
from goqueue.wiring import Client
from tests.support.processes import bench, until

pytestmark = pytest.mark.postgres

APPS = Path(__file__).parents[1] / "support" / "apps"
JOBS = 60


def test_one_poison_job_ends_dead_and_no_other_has_more_than_one_crash(database_url: str) -> None:
    settings = {
        "GOQUEUE_URL": database_url,
        "GOQUEUE_DUTIES_SWEEP_S": "0.3",
        "GOQUEUE_STORE_CRASH_DELAY_S": "0.1",
        "GOQUEUE_WORKER_POLL_S": "0.1",
    }
    jobs: list[NewJob[object]] = [
        NewJob(kind="fine" if n % 2 else "fine_in_thread", args=b'{"n": %d}' % n) for n in range(JOBS)
    ]
    jobs.insert(JOBS // 2, NewJob(kind="poison"))
    with bench(APPS, **settings) as place, Client(url=database_url) as client:
        handles = client.enqueue_many(jobs)
        poisoned = handles.pop(JOBS // 2)
        worker = place.start("worker", "poison_app:app", "--concurrency", "10")

        def left() -> list[str]:
            return [job.id for job in handles if client.get(job.id).record().state is not JobState.COMPLETED]

        assert until(lambda: client.get(poisoned.id).record().state is JobState.DEAD), worker.output
        assert until(lambda: not left()), worker.output
        assert worker.stop() == 0, worker.output
        dead = client.get(poisoned.id).record()
        others = [client.get(job.id).record() for job in handles]
    assert (dead.reason, dead.crashes, dead.attempt) == ("crashed", 3, 3)
    # The first death was that of its worker process, the others of processes that it had to itself.
    assert [error.type for error in dead.errors] == ["WorkerDied", "HandlerDied", "HandlerDied"]
    assert max(other.crashes for other in others) <= 1
    results = [json.loads(bytes(other.result or b"null")) for other in others]
    assert [result[:2] for result in results] == [["state", n] for n in range(JOBS)]
    apart = [result[2] for result, other in zip(results, others, strict=True) if other.crashes]
    usual = {result[2] for result, other in zip(results, others, strict=True) if not other.crashes}
    assert len(set(apart)) == len(apart), "each in a process that has run nothing else"
    assert not usual & set(apart)
