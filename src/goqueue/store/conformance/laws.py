"""The checker's law: fence = claims + sweeps, attempt = claims - releases - snoozes, along whole lives of jobs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from goqueue.model.admin import Duty
from goqueue.model.outcome import Answer, Cancel, Complete, Crash, Dead, Release, Retry, Snooze
from goqueue.model.query import CancelJobs, RetryJobs
from goqueue.model.state import FINAL_STATES
from goqueue.store.conformance.harness import BOOM, CRASH_DELAY_S

if TYPE_CHECKING:
    from goqueue.model.job import JobRef
    from goqueue.model.lease import Lease
    from goqueue.model.outcome import Outcome
    from goqueue.store.conformance.harness import Harness

HANDED_BACK = (Release, Snooze)


class _Life:
    """One job, and what has happened to it. Whatever that was, the law holds at its next claim."""

    def __init__(self, harness: Harness, ref: JobRef) -> None:
        self._harness = harness
        self._ref = ref
        self._counted: Counter[str] = Counter()

    async def claim(self) -> Lease:
        await self._harness.advance(100 * CRASH_DELAY_S)
        (lease,) = await self._harness.claim()
        self._counted["claims"] += 1
        assert lease.ref == self._ref
        assert lease.fence == self._counted["claims"] + self._counted["sweeps"], "fence = claims + sweeps"
        assert lease.attempt == self._attempt
        assert lease.crashes == self._counted["crashes"]
        return lease

    async def settle(self, lease: Lease, outcome: Outcome) -> None:
        assert await self._harness.settle(lease, outcome) is Answer.APPLIED
        self._counted["handed back"] += isinstance(outcome, HANDED_BACK)
        self._counted["crashes"] += isinstance(outcome, Crash)
        await self._look()

    async def sweep(self, duty: Duty) -> None:
        assert await self._harness.sweep_all(duty) == 1
        self._counted["sweeps"] += 1
        self._counted["crashes"] += duty is not Duty.EXPIRED
        await self._look()

    async def retry(self) -> None:
        await self._harness.change(self._ref, RetryJobs())
        await self._look()

    @property
    def _attempt(self) -> int:
        return self._counted["claims"] - self._counted["handed back"]

    async def _look(self) -> None:
        record = await self._harness.record(self._ref)
        assert record.attempt == self._attempt, "attempt = claims - releases - snoozes"
        assert record.crashes == self._counted["crashes"]


class LawCases:
    """Numbers that only rise as the law says."""

    async def test_the_law_holds_for_every_outcome(self, harness: Harness) -> None:
        life = _Life(harness, await harness.enqueue(max_crashes=100))
        for outcome in (Retry(0, BOOM), Snooze(0), Release(), Crash(BOOM), Dead(BOOM), Cancel(), Complete()):
            await life.settle(await life.claim(), outcome)
            await life.retry()
        await life.claim()

    async def test_the_law_holds_through_sweeps_for_orphans(self, harness: Harness) -> None:
        life = _Life(harness, await harness.enqueue(max_crashes=2))
        for _ in range(2):
            lease = await life.claim()
            await harness.advance(1000)
            await life.sweep(Duty.ORPHANS)
        assert (await harness.record(lease.ref)).state in FINAL_STATES
        await life.retry()
        await life.claim()

    async def test_the_law_holds_through_the_full_sweep(self, harness: Harness) -> None:
        life = _Life(harness, await harness.enqueue())
        lease = await life.claim()
        worker = (await harness.record(lease.ref)).worker_id
        assert worker is not None
        await harness.forget_worker(worker)
        await life.sweep(Duty.ORPHANS_FULL)
        await life.settle(await life.claim(), Complete())

    async def test_an_expiry_counts_as_a_sweep(self, harness: Harness) -> None:
        life = _Life(harness, await harness.enqueue(schedule_to_start_s=1e6))
        await life.settle(await life.claim(), Retry(0, BOOM))
        await harness.advance(2e6)
        await life.sweep(Duty.EXPIRED)
        await life.retry()
        await life.claim()

    async def test_requests_count_nothing(self, harness: Harness) -> None:
        ref = await harness.enqueue(delay_s=1e9)
        life = _Life(harness, ref)
        await life.retry()
        lease = await life.claim()
        await harness.change(ref, CancelJobs())
        await life.settle(lease, Release())
        await life.retry()
        await life.claim()
