"""Waiting for many jobs: `wait_all` and `as_completed`."""

from __future__ import annotations

import pytest

from goqueue.client.waiting import ASKED_PER_S_MAX
from goqueue.model import limits
from goqueue.model.errors import (
    ClientClosed,
    InvalidInput,
    JobCancelled,
    JobFailed,
    ResultGone,
    ResultTimeout,
    StoreUnavailable,
    WouldDeadlock,
)
from goqueue.model.job import ErrorInfo, NewJob
from goqueue.model.outcome import Cancel, Complete, Dead
from goqueue.settings import ClientSettings
from goqueue.tasks.context import in_handler
from tests.unit.client._async.faulty import World
from tests.unit.client._async.support import listed, together
from tests.unit.client.hand import Hand

JOB: NewJob[object] = NewJob(kind="x")
DEAD = Dead(ErrorInfo("ValueError", "no"))


async def test_results_come_in_the_order_of_the_jobs() -> None:
    world = World()
    jobs = await world.client.enqueue_many([JOB] * 2_500)
    hand = Hand(world.memory)
    for n in range(2_500):
        hand.do(Complete(str(n).encode()))
    assert await world.client.wait_all(jobs, timeout_s=20) == list(range(2_500))
    assert max(len(refs) for refs in world.store.polls) <= limits.BATCH_MAX
    assert await jobs[7].result() == 7
    assert jobs[7].known is not None


async def test_no_jobs_are_no_wait() -> None:
    world = World()
    assert await world.client.wait_all([]) == []
    assert await listed(world.client.as_completed([])) == []
    assert world.store.polls == []


async def test_a_job_given_twice_has_its_result_twice_and_completes_once() -> None:
    world = World()
    one, two = await world.client.enqueue_many([JOB, JOB])
    hand = Hand(world.memory)
    hand.do(Complete(b"1"))
    hand.do(Complete(b"2"))
    assert await world.client.wait_all([one, two, one], timeout_s=20) == [1, 2, 1]
    assert set(completed := await listed(world.client.as_completed([two, one, two]))) == {one, two}
    assert len(completed) == 2


async def test_the_first_that_fails_is_told_at_once() -> None:
    world = World()
    jobs = await world.client.enqueue_many([JOB, JOB])
    hand = Hand(world.memory)
    waits = hand.take()
    hand.do(DEAD)
    with pytest.raises(JobFailed, match="ValueError: no"):
        await world.client.wait_all(jobs, timeout_s=20)
    hand.settle(waits, Complete())


async def test_failures_stand_in_their_places_if_asked_for() -> None:
    world = World()
    jobs = await world.client.enqueue_many([JOB] * 4 + [JOB.options(delay_s=3600)])
    hand = Hand(world.memory)
    hand.do(Complete(b"1"))
    hand.do(DEAD)
    hand.do(Cancel("no more"))
    await jobs[3].delete()
    values = await world.client.wait_all(jobs, timeout_s=0.2, return_exceptions=True)
    assert values[0] == 1
    assert [type(value) for value in values[1:]] == [JobFailed, JobCancelled, ResultGone, ResultTimeout]


async def test_too_late_says_how_many_are_left() -> None:
    world = World()
    jobs = await world.client.enqueue_many([JOB, JOB])
    Hand(world.memory).do(Complete(b"1"))
    with pytest.raises(ResultTimeout, match="1 of 2 jobs"):
        await world.client.wait_all(jobs, timeout_s=0.1)
    with pytest.raises(ResultTimeout, match="1 of 2 jobs"):
        async for _ in world.client.as_completed(jobs, timeout_s=0.1):
            pass
    assert not world.client._waiter._waiting


async def test_jobs_come_as_they_become_final() -> None:
    world = World()
    jobs = await world.client.enqueue_many([JOB] * 3)
    hand = Hand(world.memory)
    leases = {lease.id: lease for lease in (hand.take() for _ in range(3))}
    order = [jobs[2], jobs[0], jobs[1]]
    seen: list[object] = []
    values: list[object] = []
    ended = 0

    def on_poll(number: int) -> None:
        nonlocal ended
        if ended == len(seen) and ended < 3:
            hand.settle(leases[order[ended].id], (Complete(b"5"), DEAD, Complete(b"6"))[ended])
            ended += 1

    world.store.on_poll = on_poll
    async for job in world.client.as_completed(jobs, timeout_s=20):
        assert job is order[len(seen)]
        seen.append(job)
        try:
            values.append(await job.result(timeout_s=0))
        except JobFailed as e:
            values.append(str(e).endswith("ValueError: no"))
    assert values == [5, True, 6]


async def test_a_job_that_is_gone_says_so_when_it_is_asked() -> None:
    world = World()
    job = await world.client.enqueue(JOB)
    await job.delete()
    (gone,) = await listed(world.client.as_completed([job], timeout_s=20))
    with pytest.raises(ResultGone):
        await gone.result()


async def test_a_job_that_is_run_again_is_waited_for_again() -> None:
    world = World()
    job = await world.client.enqueue(JOB)
    hand = Hand(world.memory)
    hand.do(DEAD)
    (job,) = await listed(world.client.as_completed([job], timeout_s=20))
    await job.retry()
    with pytest.raises(ResultTimeout):
        await job.result(timeout_s=0.05)
    hand.do(Complete(b"2"))
    assert await job.result(timeout_s=20) == 2


async def test_while_one_looks_at_an_answer_others_ask_for_themselves() -> None:
    world = World()
    first, second, other = await world.client.enqueue_many([JOB] * 3)
    hand = Hand(world.memory)
    hand.do(Complete(b"1"))
    completed = world.client.as_completed([first, second])
    assert await anext(completed) is first
    hand.do(Complete(b"2"))
    hand.do(Complete(b"3"))
    assert await other.result(timeout_s=20) == 3  # although `completed` waits still, and nobody calls it now
    assert await anext(completed) is second


async def test_who_stops_looking_waits_no_longer() -> None:
    world = World()
    jobs = await world.client.enqueue_many([JOB] * 2)
    Hand(world.memory).do()
    completed = world.client.as_completed(jobs)
    await anext(completed)
    await completed.aclose()  # type: ignore[attr-defined]
    assert not world.client._waiter._waiting


async def test_many_who_wait_ask_together() -> None:
    world = World()
    jobs = await world.client.enqueue_many([JOB] * 20)
    hand = Hand(world.memory)

    def on_poll(number: int) -> None:
        if len(world.store.polls[-1]) == len(jobs):
            world.store.on_poll = lambda _: None
            for n in range(len(jobs)):
                hand.do(Complete(str(n).encode()))

    world.store.on_poll = on_poll
    answers = await together(
        lambda: world.client.wait_all(jobs[:10], timeout_s=20),
        lambda: world.client.wait_all(jobs[5:], timeout_s=20),
        lambda: jobs[19].result(timeout_s=20),
    )
    assert answers == [list(range(10)), list(range(5, 20)), 19]


async def test_a_closed_client_is_told_to_who_waits_and_who_comes() -> None:
    world = World()
    jobs = await world.client.enqueue_many([JOB] * 3)
    completed = world.client.as_completed(jobs)
    hand = Hand(world.memory)
    hand.do()
    await anext(completed)
    await world.client.close()
    with pytest.raises(ClientClosed):
        await anext(completed)
    with pytest.raises(ClientClosed):
        await world.client.wait_all(jobs)
    with pytest.raises(ClientClosed):
        world.client.as_completed(jobs)


async def test_handles_of_another_client_are_refused() -> None:
    world, other = World(), World()
    mine, foreign = await world.client.enqueue(JOB), await other.client.enqueue(JOB)
    for wrong in (foreign, foreign.id):
        with pytest.raises(InvalidInput) as refused:
            await world.client.wait_all([mine, wrong])  # type: ignore[list-item]
        assert refused.value.pointer == "/jobs/1"
        with pytest.raises(InvalidInput):
            world.client.as_completed([wrong])  # type: ignore[list-item]


async def test_a_handler_that_would_wait_for_many_is_refused_unless_it_insists() -> None:
    world = World()
    job = await world.client.enqueue(JOB)
    Hand(world.memory).do(Complete(b"1"))
    token = in_handler.set(True)
    try:
        with pytest.raises(WouldDeadlock):
            await world.client.wait_all([job])
        with pytest.raises(WouldDeadlock):
            world.client.as_completed([job])
        assert await world.client.wait_all([job], timeout_s=20, allow_in_handler=True) == [1]
    finally:
        in_handler.reset(token)


async def test_a_store_that_stays_away_is_told() -> None:
    world = World(settings=ClientSettings(wait_min_s=0.001, wait_max_s=0.002, wait_unavailable_s=0.0))
    jobs = await world.client.enqueue_many([JOB, JOB])
    world.store.polls_to_refuse = 10**6
    with pytest.raises(StoreUnavailable):
        await world.client.wait_all(jobs, timeout_s=20, return_exceptions=True)


async def test_tens_of_thousands_are_asked_for_at_a_bounded_rate() -> None:
    world = World(settings=ClientSettings(wait_min_s=0.001, wait_max_s=0.001))
    jobs = await world.client.enqueue_many([JOB] * 20_000)
    with pytest.raises(ResultTimeout):
        await world.client.wait_all(jobs, timeout_s=0.5)
    # Each once at first, and then so many in a second as the bound says: a slow machine asks for fewer, never for more.
    asked = sum(len(refs) for refs in world.store.polls)
    assert asked <= len(jobs) + ASKED_PER_S_MAX * 2
