"""What only a real PostgreSQL can do to us: locks, races, rollbacks, late commits, lost connections."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest

from goqueue.model.admin import Duty
from goqueue.model.errors import InvalidInput, StoreUnavailable
from goqueue.model.job import ErrorInfo, NewJob, OnConflict, Unique
from goqueue.model.lease import Beat, Held, Lease, Signal, Want, WorkerInfo
from goqueue.model.outcome import Answer, Complete, Retry, Settlement
from goqueue.model.query import CancelJobs, ChangeStatus, EnqueueStatus, Selection
from goqueue.model.state import JobState
from goqueue.settings import StoreSettings
from goqueue.store.postgres import PostgresStore
from goqueue.store.postgres.wakeups import topic
from goqueue.tasks.prepare import new_id, prepare

MakeStore = Callable[..., Awaitable[PostgresStore]]


@pytest.fixture
async def make_store(database_url: str) -> AsyncIterator[MakeStore]:
    stores: list[PostgresStore] = []

    async def make(url: str = database_url, **settings: Any) -> PostgresStore:
        store = PostgresStore(url, settings=StoreSettings(**{"pool_max": 8, "self_test_s": 0.5, **settings}))
        stores.append(store)
        await store.open()
        return store

    yield make
    for store in stores:
        await store.close()


def job(**options: Any) -> NewJob[object]:
    return prepare(NewJob(kind="noop", args=b'{"a":1}', **options))


async def register(store: PostgresStore, ttl_s: float = 60) -> str:
    worker_id = new_id()
    await store.extend(Beat(worker=WorkerInfo(id=worker_id, queues=("default",)), ttl_s=ttl_s))
    return worker_id


async def claim(store: PostgresStore, worker_id: str, total: int = 500, *queues: str) -> list[Lease]:
    want = Want(worker_id=worker_id, queues=queues or ("default",), total=total)
    return list((await store.claim(want)).leases)


def done(lease: Lease) -> Settlement:
    return Settlement(lease.ref, lease.fence, Complete(b"1"))


async def test_concurrent_claims_never_share_a_job(make_store: MakeStore) -> None:
    stores = [await make_store(pool_max=2) for _ in range(4)]
    jobs = [job(priority=n % 3) for n in range(2_000)]
    await stores[0].enqueue(jobs[:1_000])
    await stores[0].enqueue(jobs[1_000:])

    async def work(store: PostgresStore) -> list[str]:
        worker_id = await register(store)
        got: list[str] = []
        outcomes: list[Settlement] = []
        while True:
            claimed = await store.claim(Want(worker_id=worker_id, queues=("default",), total=37), outcomes)
            # Busy: another claim, which found the row by an old index entry, has it locked until its end.
            assert set(claimed.settled) <= {Answer.APPLIED, Answer.BUSY}
            busy = [o for o, answer in zip(outcomes, claimed.settled, strict=True) if answer is Answer.BUSY]
            outcomes = [*busy, *(done(lease) for lease in claimed.leases)]
            got += [lease.id for lease in claimed.leases]
            if not outcomes:
                return got

    shares = await asyncio.gather(*(work(store) for store in stores))
    everything = [id for share in shares for id in share]
    assert sorted(everything) == sorted(j.id for j in jobs)
    records = await stores[0].get("default", everything[:1_000])
    assert {r.state for r in records if r} == {JobState.COMPLETED}


async def test_a_locked_row_delays_nothing_but_itself(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([job() for _ in range(3)])
    leases = await claim(store, worker_id)
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT FROM goqueue.job WHERE id = %s FOR UPDATE", [leases[1].id])
        async with asyncio.timeout(5):
            answers = await store.settle([done(lease) for lease in leases])
            assert answers == [Answer.APPLIED, Answer.BUSY, Answer.APPLIED]
            changed = await store.change(Selection("default", (leases[1].id,)), CancelJobs())
            assert changed[0].status is ChangeStatus.BUSY
            await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=0))
            assert (await store.sweep(Duty.ORPHANS, 100)).count == 0
        await other.rollback()
    assert await store.settle([done(leases[1])]) == [Answer.APPLIED]


async def test_a_settle_that_races_with_other_writes_is_never_half_told(make_store: MakeStore) -> None:
    """A row whose newer version is committed between snapshot and lock can be locked without being written."""
    store, other = await make_store(), await make_store()
    worker_id = await register(store)
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for _ in range(40):
        await store.enqueue([job() for _ in range(20)])
        leases = await claim(store, worker_id)
        held = tuple(Held(lease.ref, lease.fence, b'{"done":%d}' % rng.randrange(100)) for lease in leases)
        beat = Beat(worker=WorkerInfo(id=worker_id), ttl_s=60, held=held)
        ids = tuple(lease.id for lease in leases if rng.random() < 0.5)
        answers, _, _ = await asyncio.gather(
            store.settle([done(lease) for lease in leases]),
            other.extend(beat),
            other.change(Selection("default", ids), CancelJobs()),
        )
        records = await store.get("default", [lease.id for lease in leases])
        for lease, answer, record in zip(leases, answers, records, strict=True):
            assert record is not None
            assert answer in (Answer.APPLIED, Answer.BUSY), f"seed {seed}"
            final = record.state is JobState.COMPLETED
            assert final is (answer is Answer.APPLIED), (f"seed {seed}", lease.id, answer, record.state)
        busy = [done(lease) for lease, answer in zip(leases, answers, strict=True) if answer is Answer.BUSY]
        assert set(await store.settle(busy)) <= {Answer.APPLIED}, f"seed {seed}"


async def test_a_blind_retry_of_a_settle_answers_already(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([job(), job()])
    first, second = await claim(store, worker_id)
    again = Settlement(second.ref, second.fence, Retry(60, ErrorInfo("E", "m")))
    assert await store.settle([done(first), again]) == [Answer.APPLIED, Answer.APPLIED]
    assert await store.settle([done(first), again]) == [Answer.ALREADY, Answer.ALREADY]


async def test_64_enqueues_of_one_key_have_one_holder(make_store: MakeStore) -> None:
    stores = [await make_store(pool_max=16) for _ in range(2)]
    for _ in range(5):
        unique = Unique(key=new_id())
        jobs = [job(unique=unique) for _ in range(64)]
        answers = await asyncio.gather(*(stores[n % 2].enqueue([j]) for n, j in enumerate(jobs)))
        statuses = [answer[0].status for answer in answers]
        assert statuses.count(EnqueueStatus.INSERTED) == 1
        assert statuses.count(EnqueueStatus.DUPLICATE) == 63
        assert len({answer[0].ref for answer in answers}) == 1


async def test_a_key_is_taken_over_when_its_holder_rolls_back(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    unique = Unique(key="order/1")
    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        inserted = await store.enqueue_in(conn, [job(unique=unique)])
        assert inserted[0].status is EnqueueStatus.INSERTED
        waiting = asyncio.create_task(store.enqueue([job(unique=unique)]))
        await _until_somebody_waits(database_url)
        assert not waiting.done()
        await conn.rollback()
    assert (await waiting)[0].status is EnqueueStatus.INSERTED


async def test_two_bulk_enqueues_of_the_same_keys_do_not_deadlock(make_store: MakeStore) -> None:
    store = await make_store()
    keys = [new_id() for _ in range(200)]
    forward = [job(unique=Unique(key=key)) for key in keys]
    backward = [job(unique=Unique(key=key)) for key in reversed(keys)]
    one, two = await asyncio.gather(store.enqueue(forward), store.enqueue(backward))
    statuses = [answer.status for answer in (*one, *two)]
    assert statuses.count(EnqueueStatus.INSERTED) == 200
    assert statuses.count(EnqueueStatus.DUPLICATE) == 200


async def test_a_replace_does_not_wait_for_a_locked_holder(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    unique = Unique(key="k", on_conflict=OnConflict.REPLACE)
    holder = (await store.enqueue([job(unique=unique)]))[0].ref
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT FROM goqueue.job WHERE id = %s FOR UPDATE", [holder.id])
        async with asyncio.timeout(5):
            answer = (await store.enqueue([job(unique=unique)]))[0]
        assert (answer.status, answer.ref) == (EnqueueStatus.DUPLICATE, holder)
        await other.rollback()
    assert (await store.enqueue([job(unique=unique)]))[0].status is EnqueueStatus.REPLACED


async def _notify(url: str, queue: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("SELECT pg_notify('goqueue', %s)", [topic("default", queue)])


async def test_a_rollback_leaves_nothing_and_wakes_nobody(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = new_id()
    info = WorkerInfo(id=worker_id, queues=("default",))
    await store.extend(Beat(worker=info, ttl_s=60, idle=True))
    signals = store.signals("default", ("default", "later"))
    assert await anext(signals) == Signal("")  # the first says that it listens now
    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        await store.enqueue_in(conn, [job()])
        await conn.rollback()
        await _notify(database_url, "later")
        async with asyncio.timeout(5):
            assert await anext(signals) == Signal("later"), "notifications come in order: nothing came before this one"
        await store.enqueue_in(conn, [job(), job(queue="other")])
        await _notify(database_url, "later")
        async with asyncio.timeout(5):
            assert await anext(signals) == Signal("later"), "it is not committed yet"
        await conn.commit()
    async with asyncio.timeout(5):
        assert await anext(signals) == Signal("default")
    assert len(await claim(store, worker_id)) == 1


async def test_no_wake_up_inside_a_transaction_while_no_worker_is_idle(
    make_store: MakeStore, database_url: str
) -> None:
    store = await make_store()
    await store.extend(Beat(worker=WorkerInfo(id=new_id(), queues=("default",)), ttl_s=60, idle=False))
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener:
        await listener.execute("LISTEN goqueue")
        async with await psycopg.AsyncConnection.connect(database_url) as conn:
            await store.enqueue_in(conn, [job()])
            await conn.commit()
            await conn.execute("SELECT pg_notify('goqueue', 'the end')")
            await conn.commit()
        async for notification in listener.notifies(timeout=5, stop_after=1):
            assert notification.payload == "the end"
            break
        else:
            pytest.fail("nothing was heard at all")


async def test_an_enqueue_is_heard_at_once_and_a_burst_once_more(make_store: MakeStore) -> None:
    store = await make_store(notify_window_s=0.2)
    signals = store.signals("default", ("default",))
    assert await anext(signals) == Signal("")
    async with asyncio.timeout(5):
        await store.enqueue([job()])
        assert await anext(signals) == Signal("default")
        for _ in range(20):
            await store.enqueue([job()])
        assert await anext(signals) == Signal("default")  # the trailing edge, for all twenty
        more = asyncio.ensure_future(anext(signals))
        done_, _ = await asyncio.wait([more], timeout=0.3)
        assert not done_
        more.cancel()


async def test_a_batch_with_an_id_that_is_there_stores_the_others_and_wakes(make_store: MakeStore) -> None:
    """The fast statement fails as a whole; the one that comes for it must send the wake-up as well."""
    store = await make_store(notify_window_s=0.01)
    there, later, new = job(), job(delay_s=60.0), job()
    first = await store.enqueue([there, later])
    assert [a.run_at == a.created_at for a in first] == [True, False]
    signals = store.signals("default", ("default",))
    assert await anext(signals) == Signal("")
    await asyncio.sleep(0.05)  # the window of the first wake-up ends
    answers = await store.enqueue([new, there])
    assert [a.status for a in answers] == [EnqueueStatus.INSERTED, EnqueueStatus.EXISTS]
    async with asyncio.timeout(5):
        assert await anext(signals) == Signal("default")


async def test_without_notifications_a_store_says_so_and_polls(database_url: str, empty_database_url: str) -> None:
    """As behind a transaction pooler: what is sent is not heard. Here because it is sent in another database."""
    store = PostgresStore(database_url, settings=StoreSettings(self_test_s=0.2))
    connect = store._database.connect
    calls = 0

    async def elsewhere() -> Any:
        nonlocal calls
        calls += 1
        store._database.url = database_url if calls == 1 else empty_database_url
        return await connect()

    store._database.connect = elsewhere  # type: ignore[method-assign]  # the second connection goes astray
    try:
        await store.open()
        assert store.capabilities.notifications is False
        assert store._database.prepare is False
    finally:
        await store.close()


async def test_a_pause_is_exact_once_answered(make_store: MakeStore) -> None:
    store, claimer = await make_store(), await make_store()
    await store.enqueue([job() for _ in range(1_000)])
    worker_id = await register(claimer)
    claimed_at: list[float] = []
    stop = asyncio.Event()

    async def hammer() -> None:
        while not stop.is_set():
            if await claim(claimer, worker_id, 3):
                claimed_at.append(time.monotonic())
            started.set()

    started = asyncio.Event()
    hammers = [asyncio.create_task(hammer()) for _ in range(3)]
    await started.wait()
    await store.pause("default", "default", paused=True)
    before = len(await _running(store))
    for _ in range(20):
        assert await claim(claimer, worker_id, 5) == []
    assert len(await _running(store)) == before
    assert await store.paused("default") == ["default"]
    await store.pause("default", "default", paused=False)
    assert await claim(claimer, worker_id, 5)
    stop.set()
    await asyncio.gather(*hammers)


@pytest.mark.parametrize("engaged", [False, True])
async def test_a_late_commit_is_picked_up(make_store: MakeStore, database_url: str, engaged: bool) -> None:
    """A job that was stamped long before its transaction committed lies below the marks: the scan finds it."""
    store = await make_store(scan_max_s=0.2)
    worker_id = await register(store)
    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        late = job()
        await store.enqueue_in(conn, [late])
        await asyncio.sleep(0.15)  # longer than the marks trail
        await store.enqueue([job() for _ in range(600)])
        assert len(await claim(store, worker_id, 300)) == 300
        book = store._fetch._books["default", ("default",)]
        if engaged:
            book.lanes._engaged, book.lanes._slow_left = True, 10_000
        await conn.commit()
    deadline = time.monotonic() + 5
    got: set[str] = set()
    while late.id not in got:
        assert time.monotonic() < deadline
        await store.enqueue([job() for _ in range(20)])  # the queue stays busy
        got |= {lease.id for lease in await claim(store, worker_id, 20)}


async def test_a_missing_history_partition_is_made(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    worker_id = await register(store)
    with psycopg.connect(database_url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'goqueue.job_history'::regclass"
        ).fetchall()
        for (name,) in rows:
            if not name.endswith("forever"):
                connection.execute(f"DROP TABLE {name}")
    ref = (await store.enqueue([job()]))[0].ref
    (lease,) = await claim(store, worker_id)
    want = Want(worker_id=worker_id, queues=("default",), total=1)
    assert (await store.claim(want, [done(lease)])).settled == (Answer.APPLIED,)
    record = (await store.get("default", [ref.id]))[0]
    assert record is not None
    assert record.state is JobState.COMPLETED


async def test_no_wait_is_longer_than_its_deadline(make_store: MakeStore, database_url: str) -> None:
    store = await make_store(statement_timeout_s=0.5)
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("LOCK TABLE goqueue.job IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"0\.5 s"):
            await store.enqueue([job()])
        assert time.monotonic() - started < 4
        # The server was told, too: nobody waits for the lock any more.
        async with asyncio.timeout(10):
            waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'goqueue.job'::regclass"
            while (await other.execute(waiting)).rowcount:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.01)
    assert (await store.enqueue([job()]))[0].status is EnqueueStatus.INSERTED


async def test_every_connection_may_be_cut(make_store: MakeStore, database_url: str) -> None:
    store = await make_store()
    signals = store.signals("default", ("default",))
    assert await anext(signals) == Signal("")
    await asyncio.gather(*(store.ping() for _ in range(8)))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    inserted = 0
    async with asyncio.timeout(10):
        while not inserted:
            try:
                inserted += len(await store.enqueue([job()], retry=True))
            except StoreUnavailable:
                continue
    assert inserted == 1
    async with asyncio.timeout(10):
        assert await anext(signals) == Signal("")  # it listens again


async def _running(store: PostgresStore) -> list[str]:
    from goqueue.model.query import Filter, Query

    page = await store.find(Query(filter=Filter(states=(JobState.RUNNING,)), page_size=500))
    return [record.id for record in page.jobs]


async def _until_somebody_waits(url: str) -> None:
    async with asyncio.timeout(10):
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while True:
                cursor = await connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
                row = await cursor.fetchone()
                if row and row[0]:
                    return
                await asyncio.sleep(0.01)


async def test_a_beat_tells_of_leases_whose_claim_was_cut_off(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([job(), job()])
    leases = await claim(store, worker_id)
    known = Held(leases[0].ref, leases[0].fence)
    beaten = await store.extend(Beat(worker=WorkerInfo(id=worker_id), ttl_s=60, held=(known,)))
    assert (beaten.lost, beaten.cancel) == ((), ())
    assert [(stray.ref, stray.fence) for stray in beaten.strays] == [(leases[1].ref, leases[1].fence)]


async def test_an_outcome_that_cannot_be_stored_is_named_when_it_comes_alone(make_store: MakeStore) -> None:
    store = await make_store()
    worker_id = await register(store)
    await store.enqueue([job(), job()])
    good, bad = await claim(store, worker_id)
    broken = Settlement(bad.ref, bad.fence, Complete(b"{not json"))
    assert await store.settle([broken, done(good)]) == [Answer.BUSY, Answer.APPLIED]
    with pytest.raises(InvalidInput, match=bad.id):
        await store.settle([broken])
