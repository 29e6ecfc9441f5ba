# Generated from tests/unit/client/_async/test_enqueue.py by scripts/unasync.py: change that and run `make generate`.
"""A client stores each job once, whatever happens to the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from goqueue.client._sync.client import Client
from goqueue.client._sync.primitives import sleep
from goqueue.model import limits
from goqueue.model.errors import (
    IdConflict,
    InvalidInput,
    InvalidJob,
    PartlyEnqueued,
    StoreUnavailable,
    UniqueConflict,
)
from goqueue.model.job import NewJob, OnConflict, Unique
from goqueue.model.query import Enqueued, EnqueueStatus
from goqueue.tasks.prepare import new_id
from tests.unit.client._sync.faulty import World
from tests.unit.client.hand import FAST, Hand

JOB: NewJob[object] = NewJob(kind="mail", args=b'{"to":"ada"}')
KEYED = JOB.options(unique="k")
REJECTED = JOB.options(unique=Unique(key="k", on_conflict=OnConflict.REJECT))


class Transactions:
    """The ability to enqueue on a foreign connection, as seen from the client."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.calls: list[tuple[object, list[NewJob[object]]]] = []

    def enqueue(self, conn: object, jobs: Sequence[NewJob[object]]) -> list[Enqueued]:
        self.calls.append((conn, list(jobs)))
        if self.fails:
            raise StoreUnavailable("gone")
        return [Enqueued(EnqueueStatus.INSERTED, job.ref) for job in jobs]


def test_a_job_is_stored_and_its_handle_says_where() -> None:
    world = World()
    job = world.client.enqueue(JOB)
    record = job.record()
    assert world.stored() == [job.id]
    assert (record.id, record.kind, bytes(record.args)) == (job.id, "mail", b'{"to":"ada"}')
    assert (job.created_at, job.run_at, job.deduplicated) == (record.created_at, record.run_at, False)
    assert job.known is record


@pytest.mark.parametrize("tries_lost", [1, 2, FAST.enqueue_tries - 1])
def test_an_answer_that_was_lost_is_asked_for_again_under_the_same_id(tries_lost: int) -> None:
    world = World()
    world.store.answers_to_lose = tries_lost
    job = world.client.enqueue(JOB)
    assert world.stored() == [job.id]
    assert world.store.enqueues == [((job.id,), n > 0) for n in range(tries_lost + 1)]


def test_a_lost_answer_of_a_job_that_has_run_meanwhile_makes_no_second_one() -> None:
    world = World()
    world.store.answers_to_lose = 1
    hand = Hand(world.memory)
    inner = world.store.inner.enqueue

    def enqueue_and_run(jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        answers = inner(jobs, retry)
        if not retry:
            hand.do()
        return answers

    world.store.inner.enqueue = enqueue_and_run  # type: ignore[method-assign]
    job = world.client.enqueue(JOB)
    assert world.stored() == [job.id]
    assert job.state() == "completed"


def test_a_keyed_job_whose_answer_was_lost_is_not_its_own_duplicate() -> None:
    world = World()
    world.store.answers_to_lose = 1
    job = world.client.enqueue(REJECTED)
    assert world.stored() == [job.id]
    assert not job.deduplicated


def test_tries_are_bounded() -> None:
    world = World()
    world.store.enqueues_to_refuse = 100
    with pytest.raises(StoreUnavailable):
        world.client.enqueue(JOB)
    assert len(world.store.enqueues) == FAST.enqueue_tries
    assert world.stored() == []


def test_bad_input_never_reaches_the_store() -> None:
    world = World()
    with pytest.raises(InvalidJob):
        world.client.enqueue_many([JOB, JOB.options(priority=99)])
    assert world.store.enqueues == []


def test_the_holder_of_a_key_is_returned_and_says_so() -> None:
    world = World()
    first = world.client.enqueue(KEYED)
    second = world.client.enqueue(KEYED)
    assert second == first
    assert (first.deduplicated, second.deduplicated) == (False, True)
    assert world.stored() == [first.id]


def test_a_rejected_job_names_the_holder() -> None:
    world = World()
    first = world.client.enqueue(KEYED)
    with pytest.raises(UniqueConflict) as rejected:
        world.client.enqueue(REJECTED)
    assert rejected.value.holder_id == first.id


def test_the_same_job_under_the_same_id_is_that_job() -> None:
    world = World()
    mine = JOB.options(id=new_id())
    first = world.client.enqueue(mine)
    again = world.client.enqueue(mine)
    assert again == first
    assert world.stored() == [mine.id]


@pytest.mark.parametrize("other", [NewJob(kind="other"), JOB.options(priority=1), JOB.options(tags=["x"])])
def test_another_job_under_the_same_id_is_a_conflict(other: NewJob[object]) -> None:
    world = World()
    mine = JOB.options(id=new_id())
    world.client.enqueue(mine)
    with pytest.raises(IdConflict, match=mine.id):
        world.client.enqueue(other.options(id=mine.id))
    assert bytes(((world.client.get(mine.id)).record()).args) == JOB.args


def test_white_space_and_order_in_arguments_make_no_other_job() -> None:
    world = World()
    job_id = new_id()
    world.client.enqueue(NewJob(kind="x", id=job_id, args=b'{"a":1,"b":2}'))
    assert (world.client.enqueue(NewJob(kind="x", id=job_id, args=b'{ "b": 2, "a": 1 }'))).id == job_id


# -- many -----------------------------------------------------------------------------------------


def test_many_jobs_go_in_bounded_statements_and_come_back_in_order() -> None:
    world = World()
    total = 2 * limits.BATCH_MAX + 1
    wanted: list[NewJob[object]] = [NewJob(kind=f"k{n}") for n in range(total)]
    jobs = world.client.enqueue_many(iter(wanted))
    assert [len(ids) for ids, _ in world.store.enqueues] == [limits.BATCH_MAX, limits.BATCH_MAX, 1]
    assert [job.id for job in jobs] == world.stored()
    assert (jobs[-1].record()).kind == f"k{total - 1}"


def test_no_jobs_are_no_statement() -> None:
    world = World()
    assert world.client.enqueue_many([]) == []
    assert world.store.enqueues == []


def test_conflicts_among_many_are_told_after_the_others_are_stored() -> None:
    world = World()
    holder = world.client.enqueue(KEYED)
    with pytest.raises(PartlyEnqueued, match="1 of the jobs") as partly:
        world.client.enqueue_many([JOB, REJECTED, JOB])
    first, conflict, last = partly.value.ids
    assert conflict is None
    assert world.stored() == [holder.id, first, last]
    (found,) = partly.value.conflicts.items()
    assert found[0] == 1
    assert isinstance(found[1], UniqueConflict)
    assert found[1].holder_id == holder.id


def test_a_store_that_goes_away_among_many_says_how_many_are_stored() -> None:
    world = World()

    def jobs() -> list[NewJob[object]]:
        return [JOB] * (limits.BATCH_MAX + 1)

    def fail_later(jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        if len(jobs) == 1:
            raise StoreUnavailable("gone")
        return inner(jobs, retry)

    inner = world.store.inner.enqueue
    world.store.inner.enqueue = fail_later  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable) as gone:
        world.client.enqueue_many(jobs())
    (note,) = gone.value.__notes__
    assert note.startswith(
        f"The first {limits.BATCH_MAX} jobs of this enqueue_many are stored. Of the next 1,000 it is"
    )


class Taken:
    """An iterator that counts; ``bad`` is the place of a job that cannot be stored."""

    def __init__(self, total: int, *, bad: int = -1) -> None:
        self.count = 0
        self._total = total
        self._bad = bad

    def __iter__(self) -> Iterator[NewJob[object]]:
        for n in range(self._total):
            self.count += 1
            yield JOB.options(priority=99) if n == self._bad else JOB


def test_the_next_jobs_are_taken_while_a_statement_is_under_way() -> None:
    world, taken = World(), Taken(limits.BATCH_MAX + 1)
    inner = world.store.inner.enqueue
    taken_at: list[int] = []

    def slow(jobs: Sequence[NewJob[object]], retry: bool = False) -> list[Enqueued]:
        for _ in range(1_000):
            if taken.count > limits.BATCH_MAX:
                break
            sleep(0.01)
        taken_at.append(taken.count)
        return inner(jobs, retry)

    world.store.inner.enqueue = slow  # type: ignore[method-assign]
    assert len(world.client.enqueue_many(taken)) == limits.BATCH_MAX + 1
    assert taken_at[0] == limits.BATCH_MAX + 1


def test_a_bad_job_among_many_says_how_many_are_stored() -> None:
    world = World()
    with pytest.raises(InvalidJob) as bad:
        world.client.enqueue_many(Taken(2 * limits.BATCH_MAX, bad=limits.BATCH_MAX + 250))
    assert bad.value.__notes__ == [f"The first {limits.BATCH_MAX} jobs of this enqueue_many are stored."]
    assert len(world.stored()) == limits.BATCH_MAX


def test_of_two_failures_the_one_of_the_earlier_jobs_is_told() -> None:
    world = World()
    world.store.enqueues_to_refuse = 100
    with pytest.raises(StoreUnavailable) as gone:
        world.client.enqueue_many(Taken(2 * limits.BATCH_MAX, bad=limits.BATCH_MAX + 250))
    assert "are stored" not in "".join(gone.value.__notes__)
    assert world.stored() == []


# -- in a transaction of the caller's own -----------------------------------------------------------


def test_a_connection_of_the_callers_is_used_without_opening_our_own() -> None:
    world, transactions, conn = World(), Transactions(), object()
    client = Client(connect=lambda: world.store, transactions=transactions)
    job = client.enqueue(JOB, conn=conn)
    jobs = client.enqueue_many([JOB] * (limits.BATCH_MAX + 1), conn=conn)
    assert [(used, len(sent)) for used, sent in transactions.calls] == [(conn, 1), (conn, limits.BATCH_MAX), (conn, 1)]
    assert job.id == transactions.calls[0][1][0].id
    assert len(jobs) == limits.BATCH_MAX + 1
    assert world.store.opens == 0


def test_nothing_is_taken_while_a_connection_of_the_callers_is_in_use() -> None:
    world, taken = World(), Taken(limits.BATCH_MAX + 1)
    taken_at: list[int] = []

    class Slow(Transactions):
        def enqueue(self, conn: object, jobs: Sequence[NewJob[object]]) -> list[Enqueued]:
            sleep(0.05)
            taken_at.append(taken.count)
            return super().enqueue(conn, jobs)

    client = Client(connect=lambda: world.store, transactions=Slow())
    client.enqueue_many(taken, conn=object())
    assert taken_at == [limits.BATCH_MAX, limits.BATCH_MAX + 1]


def test_nothing_is_sent_again_on_a_connection_of_the_callers() -> None:
    world, transactions = World(), Transactions(fails=True)
    client = Client(connect=lambda: world.store, transactions=transactions, settings=FAST)
    with pytest.raises(StoreUnavailable):
        client.enqueue(JOB, conn=object())
    assert len(transactions.calls) == 1


def test_a_store_without_transactions_says_so() -> None:
    world = World()
    with pytest.raises(InvalidInput, match="only PostgreSQL") as refused:
        world.client.enqueue(JOB, conn=object())
    assert refused.value.pointer == "/conn"
    assert world.stored() == []
