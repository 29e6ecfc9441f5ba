"""Finding, changing, opening and closing."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from goqueue.client._async.client import AsyncClient
from goqueue.client._async.primitives import Signal
from goqueue.model.errors import (
    ClientClosed,
    InvalidJob,
    InvalidQuery,
    JobNotFound,
    StoreUnavailable,
    Unavailable,
    UniqueConflict,
    WrongState,
)
from goqueue.model.job import NewJob
from goqueue.model.outcome import Complete
from goqueue.model.query import ChangeStatus
from goqueue.model.state import JobState
from goqueue.settings import ClientSettings
from goqueue.tasks.app import GoQueue
from goqueue.tasks.prepare import new_id
from tests.unit.client._async.faulty import World
from tests.unit.client._async.support import together
from tests.unit.client.hand import FAST, Hand

JOB: NewJob[object] = NewJob(kind="mail")


# -- find -----------------------------------------------------------------------------------------


async def test_jobs_are_found_newest_first_page_by_page() -> None:
    world = World()
    stored = [job.id for job in await world.client.enqueue_many([JOB] * 5)]
    first = await world.client.find(page_size=2)
    second = await world.client.find(page_size=2, page_token=first.next_page_token)
    assert [job.id for job in first.jobs + second.jobs] == stored[:0:-1]
    assert first.jobs[0].known is not None
    assert first.jobs[0].known.kind == "mail"


async def test_all_jobs_are_iterated_over() -> None:
    world = World()
    stored = [job.id for job in await world.client.enqueue_many([JOB] * 1_100)]
    assert [job.id async for job in world.client.iterate()] == stored[::-1]


async def test_conditions_hold_together() -> None:
    world = World()
    job: NewJob[object] = NewJob(kind="a", queue="q", tags=("x", "y"))
    wanted = await world.client.enqueue(job)
    await world.client.enqueue_many([NewJob(kind="a"), NewJob(kind="b", queue="q", tags=("x",))])
    found = await world.client.find(kinds=["a"], queues=["q"], tags=["x"], states=["ready", JobState.RUNNING])
    assert [job.id for job in found.jobs] == [wanted.id]
    assert [job.id async for job in world.client.iterate(ids=[wanted.id], kinds=["b"])] == []


@pytest.mark.parametrize(
    "conditions, pointer",
    [
        ({"states": ["done"]}, "/states"),
        ({"states": "ready"}, "/states"),
        ({"queues": "mail"}, "/queues"),
        ({"ids": ["1"]}, "/ids"),
        ({"kinds": ["k"] * 1_001}, "/kinds"),
        ({"page_size": 0}, "/page_size"),
        ({"page_size": 501}, "/page_size"),
        ({"page_token": "x"}, "/page_token"),
        ({"created_after": datetime(2026, 1, 1)}, "/created_after"),  # noqa: DTZ001  that is the point
        ({"finished_before": datetime(2026, 1, 1)}, "/finished_before"),  # noqa: DTZ001  that is the point
    ],
)
async def test_a_condition_that_cannot_be_is_refused(conditions: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidQuery) as refused:
        await World().client.find(**conditions)
    assert refused.value.pointer == pointer


async def test_a_job_is_got_by_its_id() -> None:
    world = World()
    stored = await world.client.enqueue(JOB)
    assert await world.client.get(stored.id) == stored
    with pytest.raises(JobNotFound):
        await world.client.get(new_id())
    with pytest.raises(InvalidJob):
        await world.client.get("1")


async def test_jobs_that_are_not_final_are_counted() -> None:
    world = World()
    await world.client.enqueue_many([JOB, JOB.options(delay_s=60), NewJob(kind="x", queue="other")])
    counted = {(count.queue, str(count.state)): count.count for count in await world.client.counts()}
    assert counted == {("default", "ready"): 1, ("default", "scheduled"): 1, ("other", "ready"): 1}
    assert [count.count for count in await world.client.counts(queues=["other"])] == [1]


# -- change ---------------------------------------------------------------------------------------


async def test_cancel_and_retry_say_what_they_did() -> None:
    world = World()
    job = await world.client.enqueue(JOB)
    assert await job.cancel(reason="not now") is ChangeStatus.CHANGED
    assert (await job.record()).reason == "not now"
    assert await world.client.cancel(job.id) is ChangeStatus.UNCHANGED
    assert await job.retry() is ChangeStatus.CHANGED
    assert await job.state() is JobState.READY
    lease = Hand(world.memory).take()
    assert lease.id == job.id
    assert await job.cancel() is ChangeStatus.REQUESTED


async def test_a_job_is_deleted_unless_it_runs() -> None:
    world = World()
    running, waiting = await world.client.enqueue_many([JOB, JOB])
    Hand(world.memory).take()
    with pytest.raises(WrongState, match="cannot delete"):
        await running.delete()
    await waiting.delete()
    assert world.stored() == [running.id]
    with pytest.raises(JobNotFound):
        await waiting.record()


async def test_what_does_not_exist_cannot_be_changed() -> None:
    client, unknown = World().client, new_id()
    for change in (client.cancel, client.retry, client.delete):
        with pytest.raises(JobNotFound, match=unknown):
            await change(unknown)
        with pytest.raises(InvalidJob):
            await change("1")


async def test_a_retry_does_not_take_a_key_from_its_holder() -> None:
    world = World()
    old = await world.client.enqueue(JOB.options(unique="k"))
    await old.cancel()
    await world.client.enqueue(JOB.options(unique="k"))
    with pytest.raises(UniqueConflict):
        await old.retry()


async def test_a_locked_job_is_tried_again_a_bounded_number_of_times() -> None:
    world = World()
    job = await world.client.enqueue(JOB)
    world.store.changes_busy = FAST.change_tries - 1
    assert await job.cancel() is ChangeStatus.CHANGED
    world.store.changes_busy = 100
    with pytest.raises(Unavailable, match="locked"):
        await job.retry()
    assert world.store.changes_busy == 100 - FAST.change_tries


# -- open and close -------------------------------------------------------------------------------


async def test_nothing_is_opened_before_it_is_needed() -> None:
    made: list[object] = []
    world = World()

    def connect() -> Any:
        made.append(world.store)
        return world.store

    client = AsyncClient(connect=connect)
    async with client:
        assert made == []
    await client.close()
    assert (world.store.opens, world.store.closes) == (0, 0)


async def test_concurrent_first_uses_open_once() -> None:
    world = World()
    answers = await together(*[lambda: world.client.enqueue(JOB)] * 20)
    assert not [answer for answer in answers if isinstance(answer, BaseException)]
    assert world.store.opens == 1
    assert len(world.stored()) == 20


async def test_a_store_that_cannot_be_opened_now_may_be_later() -> None:
    world = World()
    world.store.opens_to_refuse = 1
    with pytest.raises(StoreUnavailable):
        await world.client.counts()
    assert world.store.closes == 1  # what was half open is given back
    assert await world.client.counts() == []


async def test_a_closed_client_says_so_to_every_call() -> None:
    world = World()
    job = await world.client.enqueue(JOB)
    async with world.client:
        pass
    await world.client.close()
    assert world.store.closes == 1
    calls: list[Any] = [
        lambda: world.client.enqueue(JOB),
        lambda: world.client.enqueue_many([JOB]),
        lambda: world.client.get(job.id),
        lambda: world.client.enqueue(JOB, conn=object()),
        world.client.find,
        world.client.counts,
        job.record,
        job.result,
        job.cancel,
        job.retry,
        job.delete,
        world.client.__aenter__,
    ]
    for call in calls:
        with pytest.raises(ClientClosed):
            await call()


async def test_closing_ends_who_waits() -> None:
    world = World()
    job = await world.client.enqueue(JOB)
    polled = Signal()
    world.store.on_poll = lambda _: polled.set()

    async def close_when_polled() -> object:
        await polled.wait(20)
        await world.client.close()
        return None

    answers = await together(job.result, job.result, close_when_polled)
    assert [type(answer) for answer in answers[:2]] == [ClientClosed, ClientClosed]


async def test_closing_does_not_wait_for_the_next_look() -> None:
    world = World(settings=ClientSettings(wait_min_s=10, wait_max_s=10))
    job = await world.client.enqueue(JOB)
    started = time.monotonic()
    answers = await together(job.result, job.result, world.client.close)
    assert [type(answer) for answer in answers[:2]] == [ClientClosed, ClientClosed]
    assert time.monotonic() - started < 5


# -- what is known of tasks -------------------------------------------------------------------------


async def test_a_found_job_has_the_result_type_of_its_task() -> None:
    app = GoQueue()

    @app.task
    def when() -> datetime: ...  # type: ignore[empty-body]

    world = World(app)
    stored = await world.client.enqueue(when.job())
    hand, at = Hand(world.memory), datetime.fromisoformat("2026-01-02T03:04:05Z")
    hand.do(Complete(when.encode_result(at)))
    assert await (await world.client.get(stored.id)).result(timeout_s=10) == at
    without_app = AsyncClient(connect=lambda: world.store)
    assert await (await without_app.get(stored.id)).result(timeout_s=10) == "2026-01-02T03:04:05Z"
