"""What is particular to the memory store: a sync and an async side of one memory, and its clock."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

from goqueue.model.errors import StoreUnavailable
from goqueue.model.lease import Signal, Want
from goqueue.model.query import EnqueueStatus
from goqueue.model.state import JobState
from goqueue.settings import StoreSettings
from goqueue.store.conformance.harness import new_job, unique
from goqueue.store.memory import Clock, Memory, MemoryStore, SyncMemoryStore
from tests.conformance.test_memory import MemoryHarness


async def test_a_sync_client_and_an_async_worker_share_one_memory() -> None:
    memory = Memory()
    client, harness = SyncMemoryStore(memory), MemoryHarness(MemoryStore(memory))
    job = new_job()
    assert client.enqueue([job])[0].status is EnqueueStatus.INSERTED
    (lease,) = await harness.claim()
    assert lease.ref == job.ref
    (record,) = client.get("default", [job.id])
    assert record is not None
    assert record.state is JobState.RUNNING


async def test_a_thread_that_enqueues_wakes_the_loop_of_a_worker() -> None:
    memory = Memory()
    store = MemoryStore(memory)
    signals = store.signals("default", ["mail"])
    thread = threading.Thread(target=SyncMemoryStore(memory).enqueue, args=([new_job(queue="mail")],))
    thread.start()
    assert await asyncio.wait_for(anext(signals), 10) == Signal("mail")
    thread.join()
    await store.close()


async def test_wake_ups_that_nobody_fetches_are_merged() -> None:
    store = MemoryStore()
    signals = store.signals("default", ["a", "b"])
    await store.enqueue([new_job(queue=queue) for queue in "ababcab"])
    await store.enqueue([new_job(queue="a", delay_s=60)])
    assert [await asyncio.wait_for(anext(signals), 10) for _ in range(2)] == [Signal("a"), Signal("b")]
    await signals.aclose()
    assert [signal async for signal in signals] == []
    await store.enqueue([new_job(queue="a")])
    assert store.memory.listeners == {}


def test_threads_that_want_one_key_get_one_job() -> None:
    store = SyncMemoryStore()
    answers = []
    start = threading.Barrier(8)

    def run() -> None:
        start.wait(10)
        answers.extend(store.enqueue([new_job(unique=unique())]))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [answer.status for answer in answers].count(EnqueueStatus.INSERTED) == 1
    assert len({answer.ref for answer in answers}) == 1


async def test_closing_one_side_leaves_the_other_open() -> None:
    memory = Memory()
    client, store = SyncMemoryStore(memory), MemoryStore(memory)
    client.close()
    with pytest.raises(StoreUnavailable):
        client.enqueue([new_job()])
    await store.enqueue([new_job()])


async def test_retention_is_exact() -> None:
    harness = MemoryHarness(MemoryStore(clock=Clock(frozen=True)))
    kept_s = StoreSettings().completed_retention_s
    ref = await harness.finish(JobState.COMPLETED)
    await harness.advance(kept_s - 1)
    assert await harness.find(ref) is not None
    await harness.advance(1)
    assert await harness.find(ref) is None


async def test_a_claim_never_exceeds_the_largest_one() -> None:
    harness = MemoryHarness(MemoryStore())
    await harness.store.enqueue([new_job() for _ in range(600)])
    worker = await harness.worker()
    claimed = await harness.store.claim(Want(worker_id=worker, queues=("default", "default"), total=10_000))
    assert len(claimed.leases) == 500


def test_a_frozen_clock_moves_only_when_told() -> None:
    clock = Clock(frozen=True)
    start = clock.now()
    assert clock.now() == start
    clock.advance(1.5)
    assert clock.now() == start + timedelta(seconds=1.5)


def test_a_clock_that_is_not_frozen_is_real_time_plus_what_was_travelled() -> None:
    clock = Clock()
    clock.advance(3600)
    assert abs((clock.now() - datetime.now(UTC)).total_seconds() - 3600) < 5
