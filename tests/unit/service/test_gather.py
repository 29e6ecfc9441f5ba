"""The gatherer: who goes with whom, who gets which error, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from goqueue.model.errors import IdConflict, NotSent, StoreUnavailable
from goqueue.model.job import NewJob
from goqueue.model.query import Enqueued, EnqueueStatus
from goqueue.store.gather import Gatherer, store_each
from goqueue.tasks.prepare import prepare
from tests.support.faulty_store import FaultyStore, Gate


def job(kind: str = "k") -> NewJob[object]:
    return prepare(NewJob(kind=kind))


def gatherer(store: FaultyStore, *, batch_max: int = 10, waiting_max: int = 100) -> Gatherer:
    return Gatherer(store, batch_max=batch_max, waiting_max=waiting_max)


@pytest.fixture
async def store() -> FaultyStore:
    store = FaultyStore()
    await store.open()
    return store


@pytest.mark.parametrize("bad", [set(), {0}, {6}, {3, 4}, set(range(7))], ids=str)
async def test_a_failing_statement_is_split(store: FaultyStore, bad: set[int]) -> None:
    async def refuse(jobs: Sequence[NewJob[object]]) -> None:
        if any(int(j.kind) in bad for j in jobs):
            raise ValueError("bad item")

    store.before_enqueue = refuse
    jobs = [job(str(i)) for i in range(7)]
    answers = await store_each(store, jobs)
    assert {i for i, answer in enumerate(answers) if isinstance(answer, ValueError)} == bad
    stored = await store.get("default", [j.id for j in jobs])
    assert {i for i, record in enumerate(stored) if record is None} == bad
    assert [a.ref.id for a in answers if isinstance(a, Enqueued)] == [j.id for i, j in enumerate(jobs) if i not in bad]


async def test_a_store_that_is_down_is_asked_once(store: FaultyStore) -> None:
    store.down = True
    answers = await store_each(store, [job() for _ in range(100)])
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert len(store.batches) == 1


async def test_a_statement_that_failed_after_its_commit_stores_nothing_twice(store: FaultyStore) -> None:
    """The answer was lost to an error that is not the store's own: the halves meet what is there."""
    first = True

    async def fail_once() -> None:
        nonlocal first
        if first:
            first = False
            raise ValueError("lost the answer")

    store.after_enqueue = fail_once
    jobs = [job(), job()]
    answers = await store_each(store, jobs)
    assert [a.status if isinstance(a, Enqueued) else a for a in answers] == [EnqueueStatus.EXISTS] * 2


async def test_batches_are_bounded_and_at_most_two_fly(store: FaultyStore) -> None:
    gather = gatherer(store, batch_max=10)
    gate = Gate()
    store.before_enqueue = gate.pass_through
    waiting = [asyncio.create_task(gather.submit(job())) for _ in range(45)]
    await gate.wait_for(2)
    gate.open()
    await asyncio.gather(*waiting)
    assert [len(batch) for batch in store.batches] == [1, 10, 10, 10, 10, 4]
    assert store.in_flight_max == 2


async def test_who_comes_alone_goes_at_once_and_the_next_do_not_wait_for_it(store: FaultyStore) -> None:
    gather = gatherer(store)
    gate = Gate()
    store.before_enqueue = gate.pass_through
    alone = asyncio.create_task(gather.submit(job()))
    await gate.wait_for(1)
    others = [asyncio.create_task(gather.submit(job())) for _ in range(3)]
    await gate.wait_for(2)
    gate.open()
    await asyncio.gather(alone, *others)
    assert [len(batch) for batch in store.batches] == [1, 3]


async def test_one_flight_at_a_time_is_enough_for_all(store: FaultyStore) -> None:
    gather = Gatherer(store, batch_max=2, waiting_max=100, in_flight_max=1)
    async with asyncio.timeout(5):
        await asyncio.gather(*(gather.submit(job()) for _ in range(9)))


async def test_those_who_are_answered_submit_again_while_one_that_came_alone_is_still_away(store: FaultyStore) -> None:
    """They must find that their flight has ended, or they would wait for ever."""
    gather = gatherer(store)
    gate = Gate()

    async def hold_the_slow_one(jobs: Sequence[NewJob[object]]) -> None:
        if jobs[0].kind == "slow":
            await gate.pass_through(jobs)

    async def twice() -> None:
        await gather.submit(job())
        await gather.submit(job())

    store.before_enqueue = hold_the_slow_one
    alone = asyncio.create_task(gather.submit(job("slow")))
    await gate.wait_for(1)
    async with asyncio.timeout(5):
        await asyncio.gather(twice(), twice())
    assert not alone.done()
    gate.open()
    await alone


async def test_who_gives_up_while_waiting_stores_nothing(store: FaultyStore) -> None:
    gather = gatherer(store, batch_max=1)
    gate = Gate()
    store.before_enqueue = gate.pass_through
    flying = [asyncio.create_task(gather.submit(job())) for _ in range(2)]
    await gate.wait_for(2)
    given_up, patient = job("given up"), job("patient")
    waiting = [asyncio.create_task(gather.submit(j)) for j in (given_up, patient)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    gate.open()
    await asyncio.gather(*flying, waiting[1])
    assert [record is None for record in await store.get("default", [given_up.id, patient.id])] == [True, False]


async def test_who_gives_up_in_flight_holds_up_nobody(store: FaultyStore) -> None:
    gather = gatherer(store)
    gate = Gate()
    store.before_enqueue = gate.pass_through
    waiting = [asyncio.create_task(gather.submit(job())) for _ in range(3)]
    await gate.wait_for(1)
    waiting[1].cancel()
    gate.open()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[1], asyncio.CancelledError)
    assert isinstance(answers[0], Enqueued)
    assert isinstance(answers[2], Enqueued)


async def test_each_waiter_gets_its_own_error(store: FaultyStore) -> None:
    store.down = True
    gather = gatherer(store)
    errors = await asyncio.gather(*(gather.submit(job()) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(error, StoreUnavailable) for error in errors)
    assert len({id(error) for error in errors}) == 5


async def test_errors_keep_what_they_say(store: FaultyStore) -> None:
    async def refuse(_: object) -> None:
        raise IdConflict("said the store")

    store.before_enqueue = refuse
    with pytest.raises(IdConflict, match="said the store"):
        await gatherer(store).submit(job())


async def test_close_stores_what_waits(store: FaultyStore) -> None:
    gather = gatherer(store, batch_max=1)
    gate = Gate()
    store.before_enqueue = gate.pass_through
    waiting = [asyncio.create_task(gather.submit(job())) for _ in range(5)]
    await gate.wait_for(2)
    closing = asyncio.create_task(gather.close(5))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="stopping"):
        await gather.submit(job())
    gate.open()
    await closing
    assert all(isinstance(answer, Enqueued) for answer in await asyncio.gather(*waiting))
    await gather.close(5)


async def test_close_does_not_wait_for_ever(store: FaultyStore) -> None:
    gather = gatherer(store, batch_max=1)
    gate = Gate()
    store.before_enqueue = gate.pass_through
    waiting = [asyncio.create_task(gather.submit(job())) for _ in range(5)]
    await gate.wait_for(2)
    await gather.close(0.01)
    answers = await asyncio.gather(*waiting[1:], return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] + [NotSent] * 3
    gate.open()  # the first went alone: it is its caller's
    assert isinstance(await waiting[0], Enqueued)


async def test_nobody_waits_for_one_deadline_after_the_other(store: FaultyStore) -> None:
    """What waited while the store did not answer was never sent, and is told so at once."""
    gather = gatherer(store, batch_max=10)
    gate = Gate()

    async def give_up(jobs: Sequence[NewJob[object]]) -> None:
        await gate.pass_through(jobs)
        raise StoreUnavailable("no answer in time")

    store.before_enqueue = give_up
    waiting = [asyncio.create_task(gather.submit(job(str(n)))) for n in range(100)]
    await gate.wait_for(2)
    gate.open()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [len(batch) for batch in store.batches] == [1, 10]
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 11 + [NotSent] * 89
    store.before_enqueue = gate.pass_through
    assert isinstance(await gather.submit(job()), Enqueued)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_flight_that_somebody_cancels_strands_nobody(store: FaultyStore, begun: bool) -> None:
    gather = gatherer(store, batch_max=1)
    gate = Gate()
    store.before_enqueue = gate.pass_through
    waiting = [asyncio.create_task(gather.submit(job())) for _ in range(6)]
    if begun:
        await gate.wait_for(2)
    else:
        await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if task.get_name() == "goqueue.gather":
            task.cancel()
    gate.open()
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(answers[0], Enqueued)
        assert all(isinstance(answer, StoreUnavailable) for answer in answers[1:])
        assert all(
            isinstance(answer, Enqueued) for answer in await asyncio.gather(*(gather.submit(job()) for _ in "ab"))
        )
