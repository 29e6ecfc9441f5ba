"""Storing any number of jobs: from an iterator, with progress, in bounded memory, and again after a crash."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from uuid import UUID

import pytest

from goqueue.client.bulk import CONFLICTS_KEPT_MAX, EnqueuedMany, Run
from goqueue.model import limits
from goqueue.model.errors import (
    ClientClosed,
    IdConflict,
    InvalidInput,
    InvalidJob,
    PartlyEnqueued,
    StoreUnavailable,
    UniqueConflict,
)
from goqueue.model.job import NewJob, OnConflict, Unique
from goqueue.model.query import Enqueued
from goqueue.tasks.prepare import new_id
from tests.unit.client._async.faulty import World
from tests.unit.client.hand import Hand

JOB: NewJob[object] = NewJob(kind="mail", args=b'{"to":"ada"}')
REJECTED = JOB.options(unique=Unique(key="k", on_conflict=OnConflict.REJECT))


def numbered(count: int, *, first: int = 0) -> Iterator[NewJob[object]]:
    for n in range(first, first + count):
        yield NewJob(kind="n", args=b'{"n":%d}' % n)


async def numbers(world: World) -> list[int]:
    """What `numbered` had stored, in the order of the ids."""
    records = [await (await world.client.get(job_id)).record() for job_id in world.stored()]
    return [int(bytes(record.args)[5:-1]) for record in records]


# -- counts and progress ----------------------------------------------------------------------------


async def test_progress_is_told_after_each_thousand() -> None:
    world, told = World(), list[EnqueuedMany]()
    done = await world.client.enqueue_many(numbered(2_500), handles=False, progress=told.append)
    assert [(one.taken, one.stored) for one in told] == [(1_000, 1_000), (2_000, 2_000), (2_500, 2_500)]
    assert (done.taken, done.stored, done.existing, done.deduplicated, done.rejected) == (2_500, 2_500, 0, 0, 0)
    assert [one.took_s for one in told] == sorted(one.took_s for one in told)
    assert done.rate == pytest.approx(2_500 / done.took_s)
    assert len(world.stored()) == 2_500


async def test_progress_is_told_with_handles_too() -> None:
    world, told = World(), list[EnqueuedMany]()
    jobs = await world.client.enqueue_many(numbered(1_001), progress=told.append)
    assert [one.taken for one in told] == [1_000, 1_001]
    assert [job.id for job in jobs] == world.stored()


async def test_an_empty_iterator_is_no_statement_and_no_progress() -> None:
    world, told = World(), list[EnqueuedMany]()
    done = await world.client.enqueue_many(iter(()), handles=False, run_id=new_id(), progress=told.append)
    assert (done.taken, done.stored, told, world.store.enqueues) == (0, 0, [], [])


async def test_each_kind_of_answer_is_counted() -> None:
    world = World()
    await world.client.enqueue(JOB.options(unique="k"))
    mine = JOB.options(id=new_id())
    await world.client.enqueue(mine)
    done = await world.client.enqueue_many([JOB, mine, JOB.options(unique="k"), REJECTED], handles=False)
    assert (done.taken, done.stored, done.existing, done.deduplicated, done.rejected) == (4, 1, 1, 1, 1)
    assert list(done.conflicts) == [3]
    assert isinstance(done.conflicts[3], UniqueConflict)


async def test_a_lost_answer_does_not_count_its_jobs_as_there_before() -> None:
    world = World()
    world.store.answers_to_lose = 1
    done = await world.client.enqueue_many(numbered(10), handles=False)
    assert (done.stored, done.existing) == (10, 0)
    assert len(world.stored()) == 10


async def test_conflicts_are_all_counted_and_the_first_are_kept() -> None:
    world = World()
    await world.client.enqueue(REJECTED)
    done = await world.client.enqueue_many([REJECTED] * (CONFLICTS_KEPT_MAX + 50), handles=False)
    assert done.rejected == CONFLICTS_KEPT_MAX + 50
    assert list(done.conflicts) == list(range(CONFLICTS_KEPT_MAX))


async def test_memory_does_not_grow_with_the_jobs() -> None:
    """No more than what is sent, what is prepared beside it, and what the iterator has just made is alive."""
    world = World()
    made = weakref.WeakValueDictionary[int, object]()
    most = 0
    inner = world.store.inner.enqueue

    async def forget(jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        nonlocal most
        answers = await inner(jobs, retry)
        world.memory.live.clear()
        gc.collect()
        most = max(most, len(made))
        return answers

    class Kept(dict[str, str]):
        """Lives as long as the job, whatever copies of that are made, and can be counted."""

    def jobs() -> Iterator[NewJob[object]]:
        for n in range(8_000):
            made[n] = meta = Kept()
            yield NewJob(kind="n", meta=meta)

    world.store.inner.enqueue = forget  # type: ignore[method-assign]
    done = await world.client.enqueue_many(jobs(), handles=False)
    assert done.stored == 8_000
    assert 0 < most <= 2 * limits.BATCH_MAX + 200


async def test_a_generator_that_raises_says_how_many_are_stored() -> None:
    world = World()

    def jobs() -> Iterator[NewJob[object]]:
        yield from numbered(1_500)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as broken:
        await world.client.enqueue_many(jobs(), handles=False)
    assert broken.value.__notes__ == ["The first 1000 jobs of this enqueue_many are stored."]
    assert len(world.stored()) == 1_000


async def test_progress_that_raises_ends_it() -> None:
    world = World()

    def stop(_: EnqueuedMany) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError) as stopped:
        await world.client.enqueue_many(numbered(5_000), progress=stop)
    assert stopped.value.__notes__ == ["The first 1000 jobs of this enqueue_many are stored."]
    assert len(world.stored()) == 1_000


async def test_a_closed_client_is_told_before_anything_is_taken() -> None:
    world = World()
    await world.client.close()
    source = numbered(1)
    with pytest.raises(ClientClosed):
        await world.client.enqueue_many(source, handles=False)
    assert len(list(source)) == 1


# -- runs ---------------------------------------------------------------------------------------------


def test_ids_of_a_run_are_uuids_of_its_time_in_the_order_of_positions() -> None:
    run_id = new_id()
    ids = [Run(run_id).id(n) for n in (0, 1, 2, 999, 1_000, 2**20 - 1, 2**20, 2**32 - 1)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    parsed = [UUID(job_id) for job_id in ids]
    assert {one.version for one in parsed} == {7}
    assert {one.variant for one in parsed} == {UUID(run_id).variant}
    assert {one.int >> 80 for one in parsed} == {UUID(run_id).int >> 80}
    assert ids == [Run(run_id.upper()).id(n) for n in (0, 1, 2, 999, 1_000, 2**20 - 1, 2**20, 2**32 - 1)]


def test_two_runs_of_one_millisecond_share_no_id() -> None:
    first = new_id()
    second = str(UUID(int=UUID(first).int ^ 1))
    assert not {Run(first).id(n) for n in range(1_000)} & {Run(second).id(n) for n in range(1_000)}


def test_a_run_is_bounded() -> None:
    with pytest.raises(InvalidInput, match="begin another"):
        Run(new_id()).id(2**32)


async def test_a_run_goes_with_no_transaction() -> None:
    with pytest.raises(InvalidInput, match="whole or not at all"):
        await World().client.enqueue_many([JOB], run_id=new_id(), conn=object())


@pytest.mark.parametrize("run_id", ["", "monday", "0199a1b2-0000-4000-8000-00000000000a"])
async def test_a_run_id_that_is_none_is_refused(run_id: str) -> None:
    world = World()
    with pytest.raises(InvalidJob) as refused:
        await world.client.enqueue_many([JOB], run_id=run_id)
    assert refused.value.pointer == "/run_id"


async def test_a_job_with_an_id_of_its_own_goes_with_no_run() -> None:
    world = World()
    with pytest.raises(InvalidInput, match="position 1"):
        await world.client.enqueue_many([JOB, JOB.options(id=new_id())], run_id=new_id())
    assert world.stored() == []


async def test_a_run_that_is_repeated_stores_nothing_twice() -> None:
    world, run_id = World(), new_id()
    first = await world.client.enqueue_many(numbered(2_500), run_id=run_id)
    told = list[EnqueuedMany]()
    again = await world.client.enqueue_many(numbered(2_500), run_id=run_id, handles=False, progress=told.append)
    assert [one.existing for one in told] == [1_000, 2_000, 2_500]
    assert (again.stored, again.existing) == (0, 2_500)
    assert [job.id for job in first] == world.stored()
    assert await numbers(world) == list(range(2_500))


@pytest.mark.parametrize("answers_lost", [False, True])
async def test_a_run_that_broke_off_goes_on_where_it_was(answers_lost: bool) -> None:
    world, run_id = World(), new_id()
    inner = world.store.inner.enqueue

    async def break_off(jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        if len(world.stored()) >= 2_000:
            if answers_lost:
                await inner(jobs, retry)
            raise StoreUnavailable("gone")
        return await inner(jobs, retry)

    world.store.inner.enqueue = break_off  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable) as gone:
        await world.client.enqueue_many(numbered(3_500), run_id=run_id, handles=False)
    (note,) = gone.value.__notes__
    assert note.startswith("The first 2000 jobs of this enqueue_many are stored.")
    assert note.endswith("The same jobs with the same run_id store what is missing, and nothing twice.")
    world.store.inner.enqueue = inner  # type: ignore[method-assign]
    done = await world.client.enqueue_many(numbered(3_500), run_id=run_id, handles=False)
    assert (done.existing, done.stored) == ((3_000, 500) if answers_lost else (2_000, 1_500))
    assert await numbers(world) == list(range(3_500))


async def test_without_a_run_id_the_error_says_what_is_not_known() -> None:
    world = World()
    world.store.enqueues_to_refuse = 100
    with pytest.raises(StoreUnavailable) as gone:
        await world.client.enqueue_many([JOB, JOB], handles=False)
    assert gone.value.__notes__ == [
        "Of the next 1,000 it is not known; with a run_id the same call could be made again."
    ]


async def test_a_run_whose_jobs_have_run_meanwhile_does_not_run_them_again() -> None:
    world, run_id = World(), new_id()
    await world.client.enqueue_many(numbered(10), run_id=run_id)
    hand = Hand(world.memory)
    for _ in range(10):
        hand.do()
    done = await world.client.enqueue_many(numbered(12), run_id=run_id, handles=False)
    assert (done.existing, done.stored) == (10, 2)


async def test_another_iterator_under_the_same_run_id_is_told_at_once() -> None:
    world, run_id = World(), new_id()
    await world.client.enqueue_many(numbered(3), run_id=run_id)
    with pytest.raises(IdConflict, match=r"position 2 before.*same order"):
        await world.client.enqueue_many(_one_other(5_000), run_id=run_id)
    with pytest.raises(IdConflict, match=r"position 2 before.*same order"):
        await world.client.enqueue_many(_one_other(5_000), run_id=run_id, handles=False)
    assert len(world.stored()) == limits.BATCH_MAX


def _one_other(count: int) -> Iterator[NewJob[object]]:
    yield from numbered(2)
    yield from numbered(count - 2, first=3)


async def test_two_runs_at_the_same_time_are_two() -> None:
    world = World()
    await world.client.enqueue_many(numbered(10), run_id=new_id())
    await world.client.enqueue_many(numbered(10), run_id=new_id())
    assert len(world.stored()) == 20


async def test_a_keyed_job_of_a_run_is_not_its_own_duplicate() -> None:
    world, run_id = World(), new_id()
    jobs = [JOB.options(unique=Unique(key=str(n % 2), on_conflict=OnConflict.REJECT)) for n in range(3)]
    with pytest.raises(PartlyEnqueued) as partly:
        await world.client.enqueue_many(jobs, run_id=run_id)
    assert list(partly.value.conflicts) == [2]
    again = await world.client.enqueue_many(jobs, run_id=run_id, handles=False)
    assert (again.existing, again.rejected, again.stored) == (2, 1, 0)
    assert len(world.stored()) == 2
