"""Jobs that are put off for less than the poll interval: their worker looks again when they fall due."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from goqueue.engine.settler import Batch, Settler
from goqueue.engine.worker import Worker
from goqueue.model.job import ErrorInfo, JobRef
from goqueue.model.outcome import Answer, Complete, Dead, Outcome, Release, Retry, Settlement, Snooze
from goqueue.model.state import JobState
from goqueue.tasks.app import GoQueue
from goqueue.tasks.context import Context
from goqueue.tasks.retry import RetryPolicy
from goqueue.tasks.signals import SnoozeJob
from tests.unit.engine.faults import FaultyStore, quick
from tests.unit.engine.test_worker import working

if TYPE_CHECKING:
    import asyncio

PATIENT_S = 60.0
"""Between two polls: a test that waited for one would not end in time."""


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


async def test_a_short_retry_and_a_short_snooze_do_not_wait_for_the_poll(store: FaultyStore) -> None:
    app = GoQueue(retry=RetryPolicy.list([0.05, 0.01]))

    @app.task
    async def third_time(ctx: Context[object]) -> None:
        if ctx.attempt < 3:
            raise ValueError("not yet")

    snoozed: list[int] = []

    @app.task
    async def later() -> None:
        if not snoozed:
            snoozed.append(1)
            raise SnoozeJob(0.02)

    ids = await store.enqueue(third_time.job(), later.job())
    async with working(Worker(app, store, quick(poll_s=PATIENT_S))):
        await store.until(lambda: sum(isinstance(s.outcome, Complete) for s in store.settled) == 2)
    assert [(job.state, job.attempt) for job in await store.jobs(ids)] == [
        (JobState.COMPLETED, 3),
        (JobState.COMPLETED, 1),
    ]


async def test_a_short_retry_whose_answer_was_lost_does_not_wait_for_the_poll_either(store: FaultyStore) -> None:
    # Longer than it takes to send the outcome again: a job that has been claimed meanwhile answers "lost".
    app, attempts = GoQueue(retry=RetryPolicy.fixed(0.2)), []

    @app.task
    async def second_time() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            store.lose_answers = 1
            raise ValueError("not yet")

    await store.enqueue(second_time.job())
    async with working(Worker(app, store, quick(poll_s=PATIENT_S))):
        await store.until(lambda: any(isinstance(s.outcome, Complete) for s in store.settled))
    assert store.answers[:2] == [Answer.APPLIED, Answer.ALREADY]


def test_only_what_the_store_has_put_off_for_a_short_while_is_looked_for_again() -> None:
    returns: list[float] = []
    loop = cast("asyncio.AbstractEventLoop", None)  # for busy answers only
    settler = Settler(batch=100, loop=loop, wake=lambda: None, returns=returns.append, returns_max_s=1.0)
    error = ErrorInfo("E", "no")

    def decide(*outcomes: Outcome) -> Batch:
        for n, outcome in enumerate(outcomes):
            settlement = Settlement(JobRef("default", "default", str(n)), 1, outcome)
            settler.note_return(settlement)
            settler.add(settlement)
        return settler.take()

    batch = decide(Retry(0.5, error), Retry(1.1, error), Snooze(0.25), Complete(), Dead(error), Release())
    settler.put_back(batch)  # not answered yet
    assert returns == []
    settler.answered(settler.take(), [Answer.APPLIED] * 6)
    assert returns == [0.5, 0.25]
    settler.answered(decide(Retry(0.5, error), Snooze(0.125)), [Answer.LOST, Answer.ALREADY])
    assert returns == [0.5, 0.25, 0.125]
    settler.refused(decide(Retry(0.5, error)), ValueError("cannot be stored"))
    settler.refused(settler.take(), ValueError("cannot be stored"))
    settler.answered(settler.take(), [Answer.APPLIED])  # it is dead instead
    assert returns == [0.5, 0.25, 0.125]
    assert settler._returning == set()
    assert settler.waiting == 0
