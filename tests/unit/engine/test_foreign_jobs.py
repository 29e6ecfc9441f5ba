"""Jobs that were sent by somebody who does not know the task: what the task says holds all the same."""

from __future__ import annotations

import asyncio
import threading

import pytest

from goqueue.engine.journal import NullJournal
from goqueue.engine.worker import Worker
from goqueue.model.job import NewJob
from goqueue.model.lease import Lease
from goqueue.model.outcome import Retry
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from goqueue.tasks.retry import RetryPolicy
from tests.unit.engine.faults import DEADLINE_S, FaultyStore, quick


class Journal(NullJournal):
    """Keeps the limits of time that were told to a supervisor."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []

    def start(self, lease: Lease, /, *, apart: bool = False) -> int:
        self.timeouts.append(lease.timeout_s)
        return super().start(lease, apart=apart)


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def app() -> GoQueue:
    return GoQueue()


@pytest.mark.parametrize("kind", ["endless", "endless_in_thread"])
async def test_the_timeout_of_the_task_is_that_of_a_job_without_one(
    store: FaultyStore, app: GoQueue, kind: str
) -> None:
    @app.task(timeout_s=0.05, max_attempts=7)
    async def endless() -> None:
        await asyncio.Event().wait()

    @app.task(timeout_s=0.05)
    def endless_in_thread(ctx: Context[None]) -> None:
        ctx.wait(60)
        ctx.raise_if_cancelled()

    journal = Journal()
    ids = await store.enqueue(NewJob(kind=kind, max_attempts=1))
    async with asyncio.timeout(DEADLINE_S):
        await Worker(app, store, quick(), journal=journal).run_until_idle()
    [job] = await store.jobs(ids)
    assert (job.errors[0].type, job.errors[0].message) == (
        "TimeoutError",
        "ran for longer than its timeout of 0.05 s",
    )
    assert journal.timeouts == [0.05]
    assert (job.timeout_s, job.max_attempts) == (None, 1)  # what was sent is not changed


async def test_a_job_with_a_timeout_of_its_own_keeps_it(store: FaultyStore, app: GoQueue) -> None:
    @app.task(timeout_s=0.05)
    async def patient() -> None:
        await asyncio.to_thread(threading.Event().wait, 0.3)

    ids = await store.enqueue(NewJob(kind="patient", timeout_s=60))
    await Worker(app, store, quick()).run_until_idle()
    [job] = await store.jobs(ids)
    assert str(job.state) == "completed"


async def test_the_retry_policy_of_the_task_is_that_of_a_job_without_one(store: FaultyStore, app: GoQueue) -> None:
    @app.task(retry=RetryPolicy.fixed(1234.0).on(KeyError, RetryPolicy.fixed(4321.0)))
    async def broken(which: str) -> None:
        raise {"key": KeyError, "value": ValueError}[which]

    for which in ("key", "value"):
        await store.enqueue(NewJob(kind="broken", args=b'{"which":"%s"}' % which.encode()))
    await Worker(app, store, quick()).run_until_idle()
    outcomes = [one.outcome for one in store.settled]
    assert [outcome.delay_s for outcome in outcomes if isinstance(outcome, Retry)] == [4321.0, 1234.0]
