"""Middleware around an enqueue: it sees each job before, and its answer after."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from goqueue.client._async.client import AsyncClient
from goqueue.model import limits
from goqueue.model.errors import (
    DefinitionError,
    InvalidJob,
    MiddlewareError,
    PartlyEnqueued,
    StoreUnavailable,
    UniqueConflict,
)
from goqueue.model.job import NewJob, OnConflict, Unique
from goqueue.model.query import Enqueued
from goqueue.tasks.app import GoQueue
from goqueue.tasks.middleware import Middleware
from tests.unit.client._async.faulty import World
from tests.unit.client._async.test_enqueue import Transactions
from tests.unit.client.hand import FAST

JOB: NewJob[object] = NewJob(kind="mail", args=b'{"to":"ada"}')
REJECTED = JOB.options(unique=Unique(key="k", on_conflict=OnConflict.REJECT))
current: ContextVar[str] = ContextVar("current", default="")


class Spy(Middleware):
    """Puts a letter into the tags, and keeps what it saw."""

    def __init__(self, letter: str) -> None:
        self.letter = letter
        self.saw: list[str] = []
        self.open = 0

    def enqueue(self, job: NewJob[Any]) -> Generator[NewJob[Any], Enqueued, None]:
        token = current.set(self.letter)
        self.open += 1
        try:
            answer = yield job.options(tags=[*job.tags, self.letter])
            self.saw.append(str(answer.status))
        except Exception as error:
            self.saw.append(type(error).__name__)
            raise
        finally:
            self.open -= 1
            if self.open == 0:
                current.reset(token)  # raises if this is not where it was set


def world_of(*middleware: Middleware) -> World:
    return World(GoQueue(middleware=middleware))


async def test_the_first_is_outermost_and_sees_the_answer_last() -> None:
    outer, inner = Spy("a"), Spy("b")
    world = world_of(outer, inner)
    job = await world.client.enqueue(JOB)
    assert (await job.record()).tags == ("a", "b")
    assert (outer.saw, inner.saw) == (["inserted"], ["inserted"])


async def test_it_goes_around_the_callers_own_transaction() -> None:
    spy, transactions = Spy("a"), Transactions()
    client = AsyncClient(GoQueue(middleware=[spy]), connect=lambda: World().store, transactions=transactions)
    await client.enqueue(JOB, conn=object())
    await client.enqueue_many([JOB, JOB], conn=object())
    assert [job.tags for _, jobs in transactions.calls for job in jobs] == [("a",)] * 3
    assert spy.saw == ["inserted"] * 3


async def test_it_goes_around_each_of_many_a_batch_at_a_time() -> None:
    spy = Spy("a")
    world = world_of(spy)
    most = 0

    def jobs() -> Iterator[NewJob[object]]:
        nonlocal most
        for _ in range(4 * limits.BATCH_MAX + 1):
            most = max(most, spy.open)
            yield JOB

    handles = await world.client.enqueue_many(jobs())
    assert len(handles) == len(spy.saw) == 4 * limits.BATCH_MAX + 1
    assert (set(spy.saw), spy.open) == ({"inserted"}, 0)
    assert most <= 2 * limits.BATCH_MAX, "those that are sent, and those that come next"


async def test_an_error_of_the_enqueue_is_raised_at_the_yield() -> None:
    spy = Spy("a")
    world = world_of(spy)
    world.store.enqueues_to_refuse = FAST.enqueue_tries
    with pytest.raises(StoreUnavailable):
        await world.client.enqueue(JOB)
    world.store.enqueues_to_refuse = FAST.enqueue_tries
    with pytest.raises(StoreUnavailable):
        await world.client.enqueue_many([JOB, JOB])
    with pytest.raises(InvalidJob):
        await world.client.enqueue(JOB.options(priority=10))
    with pytest.raises(InvalidJob):
        await world.client.enqueue_many([JOB, JOB.options(priority=10)])
    assert spy.saw == ["StoreUnavailable"] * 3 + ["InvalidJob"] * 3
    assert spy.open == 0


async def test_a_conflict_is_one_jobs_alone() -> None:
    spy = Spy("a")
    world = world_of(spy)
    await world.client.enqueue(REJECTED)
    with pytest.raises(UniqueConflict):
        await world.client.enqueue(REJECTED)
    with pytest.raises(PartlyEnqueued) as raised:
        await world.client.enqueue_many([JOB, REJECTED, JOB])
    assert list(raised.value.conflicts) == [1]
    assert spy.saw == ["inserted", "UniqueConflict", "inserted", "UniqueConflict", "inserted"]


async def test_what_is_not_sent_after_all_is_closed() -> None:
    spy = Spy("a")
    world = world_of(spy)
    world.store.enqueues_to_refuse = FAST.enqueue_tries
    with pytest.raises(StoreUnavailable):
        await world.client.enqueue_many(JOB for _ in range(limits.BATCH_MAX + 5))
    assert (len(spy.saw), spy.open) == (limits.BATCH_MAX, 0)


class Odd(Middleware):
    def __init__(self, how: str) -> None:
        self.how = how

    def enqueue(self, job: NewJob[Any]) -> Generator[NewJob[Any], Enqueued, None]:
        if self.how == "before":
            raise LookupError("before")
        if self.how == "never":
            return
        if self.how == "no job":
            yield None  # type: ignore[misc]
        try:
            yield job
        except StoreUnavailable as error:
            if self.how == "other":
                raise LookupError("other") from error
        if self.how == "after":
            raise LookupError("after")
        if self.how == "twice":
            yield job


@pytest.mark.parametrize(
    "how, error, stored",
    [
        ("before", LookupError, 0),
        ("never", MiddlewareError, 0),
        ("no job", MiddlewareError, 0),
        ("after", LookupError, 1),
        ("twice", MiddlewareError, 1),
    ],
)
async def test_its_own_errors_are_the_callers(how: str, error: type[Exception], stored: int) -> None:
    outer = Spy("a")
    world = world_of(outer, Odd(how))
    with pytest.raises(error) as raised:
        await world.client.enqueue(JOB)
    assert len(world.stored()) == stored
    assert outer.saw == [error.__name__]
    with pytest.raises(error):
        await world.client.enqueue_many([JOB, JOB])
    assert len(world.stored()) == 3 * stored
    assert bool(getattr(raised.value, "__notes__", [])) is bool(stored)


async def test_a_failed_enqueue_cannot_be_made_a_success_but_another_error() -> None:
    for how, error in (("swallow", StoreUnavailable), ("other", LookupError)):
        world = world_of(Odd(how))
        world.store.enqueues_to_refuse = FAST.enqueue_tries
        with pytest.raises(error):
            await world.client.enqueue(JOB)


def test_what_is_no_middleware_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"write Spy\(\)"):
        GoQueue(middleware=[Spy])  # type: ignore[list-item]
    with pytest.raises(DefinitionError, match="is none"):
        GoQueue(middleware=[object()])  # type: ignore[list-item]
    with pytest.raises(DefinitionError, match="at most 32"):
        GoQueue(middleware=[Middleware()] * 33)
