"""Extend, enqueue by a lease, and wake-ups: how a worker stays in touch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from goqueue.model.admin import Duty
from goqueue.model.errors import LeaseLost
from goqueue.model.lease import Beat, Held, Signal, WorkerInfo
from goqueue.model.outcome import Complete, Retry
from goqueue.model.query import CancelJobs, ChangeStatus, EnqueueStatus
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, TTL_S, json_of, near, new_job, unique, worker_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from goqueue.model.lease import Lease
    from goqueue.store.conformance.harness import Harness


def _held(lease: Lease, progress: bytes | None = None) -> Held:
    return Held(lease.ref, lease.fence, progress)


class LeaseCases:
    """Beats, children, wake-ups."""

    async def test_a_beat_registers_the_worker(self, harness: Harness) -> None:
        info = WorkerInfo(
            id=worker_id(),
            name="mail-1",
            host="box",
            pid=77,
            version="1.2",
            queues=("a", "b"),
            kinds=("x",),
            concurrency=5,
        )
        await harness.store.extend(Beat(worker=info, ttl_s=30, running=3, idle=True, draining=True))
        (record,) = await harness.store.workers("default")
        assert (record.id, record.name, record.host, record.pid) == (info.id, "mail-1", "box", 77)
        assert (record.version, record.queues, record.kinds, record.concurrency) == ("1.2", ("a", "b"), ("x",), 5)
        assert (record.running, record.idle, record.draining) == (3, True, True)
        assert near(record.expires_at, record.beat_at, 30)
        assert near(record.beat_at, record.started_at)

    async def test_a_later_beat_keeps_the_start_and_moves_the_end(self, harness: Harness) -> None:
        worker = await harness.worker()
        (first,) = await harness.store.workers("default")
        assert 0 < first.left_s <= TTL_S
        await harness.advance(TTL_S + 10)
        (over,) = await harness.store.workers("default")
        assert -TTL_S < over.left_s <= -10  # by the store's clock, whatever that of the caller says
        await harness.beat(worker)
        (second,) = await harness.store.workers("default")
        assert second.left_s > 0
        assert second.started_at == first.started_at
        assert near(second.beat_at, first.beat_at, TTL_S + 10)
        assert near(second.expires_at, first.expires_at, TTL_S + 10)

    async def test_beats_keep_a_lease_for_as_long_as_they_come(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker)
        for _ in range(5):
            await harness.advance(TTL_S - 10)
            beaten = await harness.beat(worker, held=[_held(lease)])
            assert (beaten.lost, beaten.cancel) == ((), ())
            assert await harness.sweep_all(Duty.ORPHANS) == 0
        assert await harness.state(lease.ref) is JobState.RUNNING

    async def test_a_late_beat_keeps_what_nobody_has_swept(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker)
        await harness.advance(2 * TTL_S)
        assert (await harness.beat(worker, held=[_held(lease)])).lost == ()
        assert await harness.sweep_all(Duty.ORPHANS) == 0

    async def test_a_beat_tells_what_is_lost(self, harness: Harness) -> None:
        worker = await harness.worker()
        swept = await harness.run(worker)
        await harness.advance(2 * TTL_S)
        await harness.sweep_all(Duty.ORPHANS)
        await harness.change(swept.ref, CancelJobs())
        await harness.beat(worker)
        kept, settled = await harness.run(worker), await harness.run(worker)
        await harness.settle(settled, Complete())
        beaten = await harness.beat(worker, held=[_held(swept), _held(kept), _held(settled)])
        assert set(beaten.lost) == {swept.ref, settled.ref}
        assert beaten.cancel == ()

    async def test_a_beat_under_an_old_fence_is_lost_and_keeps_no_progress(self, harness: Harness) -> None:
        worker = await harness.worker()
        old = await harness.run(worker)
        await harness.settle(old, Retry(0, BOOM))
        (new,) = await harness.claim(await harness.worker())
        beaten = await harness.beat(worker, held=[_held(old, b'{"by":"old"}')])
        assert beaten.lost == (new.ref,)
        assert (await harness.record(new.ref)).progress is None

    async def test_a_beat_for_the_lease_of_another_worker_is_lost(self, harness: Harness) -> None:
        lease = await harness.run(await harness.worker())
        beaten = await harness.beat(await harness.worker(), held=[_held(lease, b'{"by":"other"}')])
        assert beaten.lost == (lease.ref,)
        assert (await harness.record(lease.ref)).progress is None

    async def test_progress_is_kept_until_there_is_other(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker)
        await harness.beat(worker, held=[_held(lease, b'{"done":1}')])
        assert json_of((await harness.record(lease.ref)).progress) == {"done": 1}
        await harness.beat(worker, held=[_held(lease)])
        assert json_of((await harness.record(lease.ref)).progress) == {"done": 1}
        await harness.beat(worker, held=[_held(lease, b'{"done":2}')])
        await harness.settle(lease, Complete())
        assert json_of((await harness.record(lease.ref)).progress) == {"done": 2}

    async def test_a_beat_tells_what_somebody_wants_cancelled(self, harness: Harness) -> None:
        worker = await harness.worker()
        wanted, unwanted = await harness.run(worker), await harness.run(worker)
        other = await harness.run(await harness.worker())
        await harness.change(unwanted.ref, CancelJobs())
        await harness.change(other.ref, CancelJobs())
        beaten = await harness.beat(worker, held=[_held(wanted), _held(unwanted)])
        assert (beaten.lost, beaten.cancel) == ((), (unwanted.ref,))

    async def test_a_beat_names_leases_that_the_worker_does_not_know_of(self, harness: Harness) -> None:
        worker = await harness.worker()
        known, stray = await harness.run(worker, queue="a"), await harness.run(worker, queue="b")
        await harness.run(await harness.worker(), queue="c")
        assert (await harness.beat(worker, held=[_held(known)])).strays == (_held(stray),)
        assert (await harness.beat(worker, held=[_held(known), _held(stray)])).strays == ()
        await harness.settle(stray, Complete())
        assert (await harness.beat(worker, held=[_held(known)])).strays == ()

    async def test_leaving_makes_orphans_at_once(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker)
        await harness.beat(worker, ttl_s=0)
        assert await harness.sweep_all(Duty.ORPHANS) == 1
        assert await harness.state(lease.ref) is JobState.RETRYING

    # -- enqueue by a lease -----------------------------------------------------------------------------

    async def test_a_handler_enqueues_under_its_lease(self, harness: Harness) -> None:
        lease = await harness.run()
        child, keyed = new_job(), new_job(unique=unique())
        answers = await harness.store.enqueue_by([child, keyed], lease.ref, lease.fence)
        assert [answer.status for answer in answers] == [EnqueueStatus.INSERTED] * 2
        assert {again.ref for again in await harness.claim()} == {child.ref, keyed.ref}

    async def test_a_lost_lease_enqueues_nothing(self, harness: Harness) -> None:
        old = await harness.run()
        await harness.settle(old, Retry(0, BOOM))
        await harness.claim()
        child = new_job()
        with pytest.raises(LeaseLost):
            await harness.store.enqueue_by([child], old.ref, old.fence)
        assert await harness.find(child.ref) is None

    async def test_a_settled_lease_enqueues_nothing(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.settle(lease, Complete())
        child = new_job()
        with pytest.raises(LeaseLost):
            await harness.store.enqueue_by([child], lease.ref, lease.fence)
        assert await harness.find(child.ref) is None

    async def test_an_expired_lease_enqueues_nothing(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.advance(2 * TTL_S)
        child = new_job()
        with pytest.raises(LeaseLost):
            await harness.store.enqueue_by([child], lease.ref, lease.fence)
        assert await harness.find(child.ref) is None

    # -- wake-ups ---------------------------------------------------------------------------------------

    async def test_a_new_job_wakes_whoever_listens_to_its_queue(self, harness: Harness) -> None:
        signals = harness.store.signals("default", ["mail", "other"])
        heard = await _heard(harness, signals)
        if heard is None and not harness.store.capabilities.notifications:
            pytest.skip("this store has no notifications: its workers poll")
        assert heard in (Signal("mail"), Signal())

    async def test_a_cancel_request_of_a_running_job_wakes_the_workers_of_its_tenant(self, harness: Harness) -> None:
        signals = harness.store.signals("default", ["mail"])
        await _heard(harness, signals)  # from the first signal on it is known whether there are notifications
        if not harness.store.capabilities.notifications:
            pytest.skip("this store has no notifications: its workers hear of it with their beats")
        worker = await harness.worker()
        heard = asyncio.ensure_future(_until_cancels(signals))
        for number in range(100):
            # A wake-up may be lost: so more than one is given the chance.
            lease = await harness.run(worker, queue=f"other-{number}")
            assert await harness.change(lease.ref, CancelJobs()) is ChangeStatus.REQUESTED
            done, _pending = await asyncio.wait([heard], timeout=0.1)
            if done:
                break
        assert heard.done(), "nobody was told"
        assert heard.result().cancels

    async def test_signals_end_with_the_store(self, harness: Harness) -> None:
        signals = harness.store.signals("default", ["mail"])
        listening = asyncio.ensure_future(_drain(signals))
        await asyncio.sleep(0)
        await harness.store.close()
        await asyncio.wait_for(listening, 10)


async def _heard(harness: Harness, signals: AsyncIterator[Signal]) -> Signal | None:
    """Enqueue until a wake-up comes: one may be lost, and a store may need a moment until it listens."""
    heard = asyncio.ensure_future(anext(signals))
    for _ in range(100):
        await harness.enqueue(queue="mail")
        done, _pending = await asyncio.wait([heard], timeout=0.1)
        if done:
            return heard.result()
    heard.cancel()
    return None


async def _until_cancels(signals: AsyncIterator[Signal]) -> Signal:
    async for signal in signals:
        if signal.cancels:
            return signal
    raise AssertionError("the signals have ended")


async def _drain(signals: AsyncIterator[Signal]) -> None:
    async for _ in signals:
        pass
