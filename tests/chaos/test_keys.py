"""Fault 23: unique keys under races. (The idempotency keys of fault 24 are in test_store_idempotency.py.)"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from goqueue.model.job import ErrorInfo, NewJob, Unique
from goqueue.model.lease import Beat, Want, WorkerInfo
from goqueue.model.outcome import Answer, Cancel, Complete, Dead, Outcome, Retry, Settlement
from goqueue.model.query import ChangeStatus, Enqueued, EnqueueStatus, RetryJobs, Selection
from goqueue.model.state import JobState
from goqueue.settings import StoreSettings
from goqueue.store.postgres import PostgresStore
from goqueue.tasks.prepare import new_id, prepare
from tests.chaos.harness import Chaos

CALLERS = 64
STORES = 2
FINAL = (JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD)
ERROR = ErrorInfo("Broken", "on purpose")
SOON_S, LATER_S = 0.0, 600.0


class Keys:
    """Stores with many connections each, a worker by hand, and one key."""

    def __init__(self, chaos: Chaos, stores: Sequence[PostgresStore]) -> None:
        self.chaos = chaos
        self.stores = stores
        self.worker = WorkerInfo(id=new_id(), queues=("default",))
        self.key = ""
        self.open: list[str] = []

    def job(self, **options: Any) -> NewJob[object]:
        unique = Unique(key=self.key, final_states=options.pop("final_states", ()))
        job: NewJob[object] = prepare(NewJob(kind="work", unique=unique, max_attempts=50, **options))
        self.chaos.ledger.write("sent", id=job.id, kind="work")
        return job

    async def enqueue(self, **options: Any) -> Enqueued:
        job = self.job(**options)
        store = self.chaos.random.choice(self.stores)
        answer = (await store.enqueue([job]))[0]
        if answer.status is EnqueueStatus.INSERTED:
            self.chaos.ledger.write("acknowledged", id=job.id)
        return answer

    async def enqueue_at_once(self, count: int = CALLERS, **options: Any) -> list[Enqueued]:
        return list(await asyncio.gather(*(self.enqueue(**options) for _ in range(count))))

    async def claim(self) -> Settlement:
        """Claim the one job that is due; what to settle it by (as completed)."""
        for _ in range(200):
            claimed = await self.stores[0].claim(Want(worker_id=self.worker.id, queues=("default",), total=10))
            if claimed.leases:
                (lease,) = claimed.leases
                return Settlement(lease.ref, lease.fence, Complete())
            await asyncio.sleep(0.01)
        raise AssertionError("nothing is due")

    async def settle(self, lease: Settlement, outcome: Outcome) -> None:
        """Settle; nothing that others do with the key may refuse it."""
        for _ in range(200):
            (answer,) = await self.stores[0].settle([Settlement(lease.ref, lease.fence, outcome)])
            if answer is not Answer.BUSY:
                break
        assert answer is Answer.APPLIED, answer

    async def hold(self, state: str) -> str:
        """Make a holder in this state; its id."""
        final = FINAL if state in FINAL else ()
        later = {"delay_s": LATER_S} if state == "scheduled" else {}
        answer = await self.enqueue(final_states=final, **later)
        assert answer.status is EnqueueStatus.INSERTED
        outcomes: dict[str, Outcome] = {
            "retrying": Retry(LATER_S, ERROR),
            "completed": Complete(b"1"),
            "cancelled": Cancel("not wanted"),
            "dead": Dead(ERROR),
        }
        if state not in ("scheduled", "ready"):
            lease = await self.claim()
            assert lease.ref == answer.ref
            if state in outcomes:
                await self.settle(lease, outcomes[state])
            else:
                self._running = lease
        return answer.ref.id

    async def let_go(self, state: str, id: str) -> None:
        """End a holder that is not final."""
        if state == "scheduled" or state == "retrying":
            (changed,) = await self.stores[1].change(Selection("default", (id,)), RetryJobs())
            assert changed.status is ChangeStatus.CHANGED
        if state != "running":
            self._running = await self.claim()
        assert self._running.ref.id == id
        await self.settle(self._running, Complete(b"1"))

    def holders(self) -> list[str]:
        return [row[0] for row in self.chaos.sql("SELECT id::text FROM goqueue.job WHERE unique_key = %s", self.key)]


@asynccontextmanager
async def keys_on(chaos: Chaos) -> AsyncIterator[Keys]:
    stores = [PostgresStore(chaos.url, settings=StoreSettings(pool_max=16)) for _ in range(STORES)]
    try:
        for store in stores:
            await store.open()
        keys = Keys(chaos, stores)
        await stores[0].extend(Beat(worker=keys.worker, ttl_s=3_000))
        yield keys
        await stores[0].extend(Beat(worker=keys.worker, ttl_s=0))
    finally:
        for store in stores:
            await store.close()


STATES = ("scheduled", "ready", "running", "retrying", "completed", "cancelled", "dead")


async def test_23_64_enqueues_of_one_key_meet_a_holder_in_every_state(chaos: Chaos) -> None:
    async with keys_on(chaos) as keys:
        for n in range(chaos.pick(1, 15) * len(STATES)):
            state = STATES[n % len(STATES)]
            keys.key = f"held/{n}"
            holder = await keys.hold(state)
            answers = await keys.enqueue_at_once()
            assert {answer.ref.id for answer in answers} == {holder}, state
            assert {answer.status for answer in answers} == {EnqueueStatus.DUPLICATE}, state
            assert keys.holders() == ([] if state in FINAL else [holder]), state
            if state not in FINAL:
                await keys.let_go(state, holder)
                # Now it is free, for exactly one.
                answers = await keys.enqueue_at_once(8)
                ((id, _),) = Counter(answer.ref.id for answer in answers).most_common()
                assert id != holder
                await keys.let_go("ready", id)
    chaos.check()


async def test_23_64_enqueues_of_one_key_that_nobody_holds(chaos: Chaos) -> None:
    """Some of them in transactions of their own, which are committed or rolled back."""
    async with keys_on(chaos) as keys:
        for n in range(chaos.pick(4, 100)):
            keys.key = f"free/{n}"
            answers, committed = await asyncio.gather(
                keys.enqueue_at_once(CALLERS - 8), asyncio.gather(*(_in_a_transaction(keys) for _ in range(8)))
            )
            (holder,) = keys.holders()
            assert {answer.ref.id for answer in answers} | {*committed} - {None} == {holder}
            assert sum(answer.status is EnqueueStatus.INSERTED for answer in answers) <= 1
            await keys.let_go("ready", holder)
    chaos.check()


async def _in_a_transaction(keys: Keys) -> str | None:
    """Enqueue in a transaction of our own; the holder's id if it was committed."""
    commits = keys.chaos.random.random() < 0.5
    job = keys.job()
    async with await psycopg.AsyncConnection.connect(keys.chaos.url) as connection:
        (answer,) = await keys.stores[0].enqueue_in(connection, [job])
        if commits:
            await connection.commit()
            if answer.status is EnqueueStatus.INSERTED:
                keys.chaos.ledger.write("acknowledged", id=job.id)
            return answer.ref.id
        await connection.rollback()
        keys.chaos.ledger.write("refused", id=job.id)
    return None


async def test_23_the_state_of_the_holder_changes_under_the_enqueues(chaos: Chaos) -> None:
    """It retries, ends, is retried by hand: nothing of that conflicts with itself, and no other holder comes beside."""
    async with keys_on(chaos) as keys:
        for n in range(chaos.pick(4, 60)):
            keys.key = f"moving/{n}"
            keeps = FINAL if chaos.random.random() < 0.5 else ()
            first = await keys.enqueue(final_states=keeps)
            lease = await keys.claim()

            async def live(lease: Settlement = lease) -> None:
                for _ in range(3):
                    await keys.settle(lease, Retry(SOON_S, ERROR))
                    lease = await keys.claim()
                await keys.settle(lease, Dead(ERROR))

            answers, _ = await asyncio.gather(_trickle(keys, keeps), live())
            told = {answer.ref.id for answer in answers}
            holders = keys.holders()
            assert len(holders) <= 1
            assert told <= {first.ref.id, *holders}
            assert not (keeps and holders), "a key was free while a final job held it"
            (changed,) = await keys.stores[1].change(Selection("default", (first.ref.id,)), RetryJobs())
            expected = ChangeStatus.KEY_HELD if holders else ChangeStatus.CHANGED
            assert changed.status is expected
            await keys.let_go("ready", holders[0] if holders else first.ref.id)
    chaos.check()


async def _trickle(keys: Keys, keeps: tuple[JobState, ...]) -> list[Enqueued]:
    """64 enqueues, some at once, some a little later."""

    async def one() -> Enqueued:
        await asyncio.sleep(keys.chaos.random.uniform(0, 0.1))
        return await keys.enqueue(final_states=keeps)

    return list(await asyncio.gather(*(one() for _ in range(CALLERS))))


async def test_23_a_waiter_takes_over_when_the_holder_rolls_back(chaos: Chaos) -> None:
    async with keys_on(chaos) as keys:
        for n in range(chaos.pick(4, 60)):
            keys.key = f"rolled/{n}"
            commits = n % 4 == 3
            job = keys.job()
            async with await psycopg.AsyncConnection.connect(chaos.url) as connection:
                (answer,) = await keys.stores[0].enqueue_in(connection, [job])
                assert answer.status is EnqueueStatus.INSERTED
                waiting = asyncio.create_task(keys.enqueue_at_once())
                await _somebody_waits(chaos)
                assert not waiting.done()
                await (connection.commit() if commits else connection.rollback())
                chaos.ledger.write("acknowledged" if commits else "refused", id=job.id)
            answers = await waiting
            (holder,) = keys.holders()
            assert {one.ref.id for one in answers} == {holder}
            statuses = Counter(one.status for one in answers)
            assert statuses[EnqueueStatus.INSERTED] == (0 if commits else 1)
            assert (holder == job.id) is commits
            await keys.let_go("ready", holder)
    chaos.check()


async def _somebody_waits(chaos: Chaos) -> None:
    waiting = (
        "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) "
        "WHERE NOT l.granted AND a.datname = current_database()"
    )
    for _ in range(1_000):
        if chaos.sql(waiting)[0][0] >= 4:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits for the key")
