"""Retention: how long the history keeps what, with the default settings of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from goqueue.model.admin import Duty
from goqueue.model.query import EnqueueStatus, Filter, Query
from goqueue.model.state import JobState
from goqueue.settings import StoreSettings
from goqueue.store.conformance.harness import new_job, unique

if TYPE_CHECKING:
    from goqueue.store.conformance.harness import Harness

DAY_S: Final = 86_400.0
KEPT_S: Final = StoreSettings().completed_retention_s


class RetentionCases:
    """A store may keep jobs up to two days longer than asked (whole days are dropped), never less long."""

    async def test_completed_and_cancelled_jobs_are_kept_for_their_retention(self, harness: Harness) -> None:
        refs = [await harness.finish(state) for state in (JobState.COMPLETED, JobState.CANCELLED)]
        await harness.advance(KEPT_S - 60)
        await harness.sweep_all(Duty.HISTORY)
        for ref in refs:
            assert await harness.find(ref) is not None

    async def test_completed_and_cancelled_jobs_go_after_their_retention(self, harness: Harness) -> None:
        refs = [await harness.finish(state) for state in (JobState.COMPLETED, JobState.CANCELLED)]
        await harness.advance(KEPT_S + 2 * DAY_S)
        await harness.sweep_all(Duty.HISTORY)
        assert await harness.store.get("default", [ref.id for ref in refs]) == [None, None]
        assert await harness.store.history(refs) == [None, None]
        assert (await harness.store.find(Query(filter=Filter()))).jobs == ()

    async def test_dead_jobs_are_kept_for_ever(self, harness: Harness) -> None:
        ref = await harness.finish(JobState.DEAD)
        await harness.advance(1000 * DAY_S)
        await harness.sweep_all(Duty.HISTORY)
        assert await harness.state(ref) is JobState.DEAD

    async def test_live_jobs_are_never_swept_from_history(self, harness: Harness) -> None:
        ref = await harness.enqueue(delay_s=50 * DAY_S)
        await harness.advance(100 * DAY_S)
        await harness.sweep_all(Duty.HISTORY)
        assert await harness.state(ref) is JobState.READY

    async def test_a_key_goes_with_the_last_trace_of_its_holder(self, harness: Harness) -> None:
        key = unique(final_states=[JobState.COMPLETED])
        ref = await harness.finish(JobState.COMPLETED, unique=key)
        await harness.advance(KEPT_S - 60)
        await harness.sweep_all(Duty.HISTORY)
        assert (await harness.try_enqueue(new_job(unique=key))).ref == ref
        await harness.advance(3 * DAY_S)
        await harness.sweep_all(Duty.HISTORY)
        assert (await harness.try_enqueue(new_job(unique=key))).status is EnqueueStatus.INSERTED

    async def test_jobs_can_finish_on_any_day_to_come(self, harness: Harness) -> None:
        for _ in range(3):
            await harness.advance(40 * DAY_S)
            ref = await harness.finish(JobState.COMPLETED)
            assert await harness.state(ref) is JobState.COMPLETED
