"""Manual retries: with edited arguments, later, and spread over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.model.admin import Duty
from goqueue.model.job import VERSION_KEY
from goqueue.model.outcome import Complete, Dead, Retry
from goqueue.model.query import ChangeStatus, RetryJobs, Selection
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, json_of, near, near_s, new_id, new_job

if TYPE_CHECKING:
    from goqueue.store.conformance.harness import Harness

FINAL = (JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD)


class RetryCases:
    """What operators do to dead letters."""

    async def test_a_final_job_is_retried_with_edited_arguments(self, harness: Harness) -> None:
        for state in FINAL:
            ref = await harness.finish(state, args=b'{"n":1}')
            assert await harness.change(ref, RetryJobs(args=b'{"n":2}')) is ChangeStatus.CHANGED
            assert json_of((await harness.record(ref)).args) == {"n": 2}
            (lease,) = await harness.claim()
            assert json_of(lease.args) == {"n": 2}
            await harness.settle(lease, Complete())

    async def test_a_retry_without_arguments_keeps_them(self, harness: Harness) -> None:
        ref = await harness.finish(JobState.DEAD, args=b'{"n":1}')
        await harness.change(ref, RetryJobs())
        assert json_of((await harness.record(ref)).args) == {"n": 1}

    async def test_jobs_that_are_not_final_keep_their_arguments(self, harness: Harness) -> None:
        edited = RetryJobs(args=b'{"n":2}')
        refs = [await harness.enqueue(args=b'{"n":1}', delay_s=600)]
        running = await harness.run(args=b'{"n":1}')
        refs += [running.ref, await harness.enqueue(args=b'{"n":1}')]
        for ref in refs:
            before = await harness.record(ref)
            assert await harness.change(ref, edited) is ChangeStatus.WRONG_STATE
            assert await harness.record(ref) == before

    async def test_new_arguments_are_of_the_version_that_is_named(self, harness: Harness) -> None:
        for before in ({"a": "b"}, {"a": "b", VERSION_KEY: "2"}):
            for version, after in ((None, before), (1, {"a": "b"}), (3, {"a": "b", VERSION_KEY: "3"})):
                ref = await harness.finish(JobState.COMPLETED, meta=before, queue=f"{len(before)}-{version}")
                await harness.change(ref, RetryJobs(args=b'{"n":2}', version=version))
                assert (await harness.record(ref)).meta == after
        ref = await harness.finish(JobState.COMPLETED, meta={VERSION_KEY: "2"}, queue="alone")
        await harness.change(ref, RetryJobs(args=b'{"n":2}', version=1))
        assert (await harness.record(ref)).meta == {}
        ref = await harness.finish(JobState.COMPLETED, meta={VERSION_KEY: "2"}, queue="its own")
        await harness.change(ref, RetryJobs(version=3))
        assert (await harness.record(ref)).meta == {VERSION_KEY: "2"}

    async def test_a_retry_can_be_due_later(self, harness: Harness) -> None:
        ref = await harness.finish(JobState.DEAD)
        before = await harness.record(ref)
        assert await harness.change(ref, RetryJobs(delay_s=600.0)) is ChangeStatus.CHANGED
        record = await harness.record(ref)
        assert record.state is JobState.RETRYING
        assert near(record.run_at, before.finished_at, 600)
        assert await harness.claim() == []
        await harness.advance(700)
        assert [lease.ref for lease in await harness.claim()] == [ref]

    async def test_many_retries_come_at_a_bounded_rate_in_the_order_of_the_selection(self, harness: Harness) -> None:
        refs = [await harness.finish(JobState.DEAD) for _ in range(4)]
        refs = [refs[2], refs[0], refs[3], refs[1]]
        ids = tuple(ref.id for ref in refs)
        changed = await harness.store.change(Selection("default", ids), RetryJobs(delay_s=1000.0, every_s=100.0))
        assert [(answer.id, answer.status) for answer in changed] == [(i, ChangeStatus.CHANGED) for i in ids]
        records = [await harness.record(ref) for ref in refs]
        assert near(records[0].run_at, records[0].created_at, 1000)
        for number, record in enumerate(records):
            assert record.run_at is not None
            assert near(record.run_at, records[0].run_at, 100 * number)

    async def test_what_cannot_be_retried_leaves_a_gap_in_the_spread(self, harness: Harness) -> None:
        first, running, last = (
            await harness.finish(JobState.DEAD),
            await harness.run(),
            await harness.enqueue(delay_s=1e6),
        )
        ids = (first.id, running.id, new_id(), last.id)
        changed = await harness.store.change(Selection("default", ids), RetryJobs(every_s=100.0))
        assert [answer.status for answer in changed] == [
            ChangeStatus.CHANGED,
            ChangeStatus.WRONG_STATE,
            ChangeStatus.NOT_FOUND,
            ChangeStatus.CHANGED,
        ]
        record = await harness.record(last)
        assert near(record.run_at, record.created_at, 300)

    async def test_a_waiting_job_that_is_due_sooner_stays_so(self, harness: Harness) -> None:
        for fields in ({}, {"delay_s": 300}):
            ref = await harness.enqueue(**fields)
            before = await harness.record(ref)
            assert await harness.change(ref, RetryJobs(delay_s=600.0)) is ChangeStatus.UNCHANGED
            assert await harness.record(ref) == before

    async def test_a_deadline_that_has_passed_is_lifted(self, harness: Harness) -> None:
        lease = await harness.run(deadline_s=100.0)
        await harness.settle(lease, Dead(BOOM))
        await harness.advance(200)
        await harness.change(lease.ref, RetryJobs())
        assert (await harness.record(lease.ref)).deadline_at is None
        assert await harness.sweep_all(Duty.EXPIRED) == 0
        (again,) = await harness.claim()
        assert again.deadline_in_s is None

    async def test_a_deadline_that_is_ahead_still_counts(self, harness: Harness) -> None:
        lease = await harness.run(deadline_s=500.0)
        await harness.settle(lease, Dead(BOOM))
        before = await harness.record(lease.ref)
        await harness.advance(200)
        await harness.change(lease.ref, RetryJobs(delay_s=1000.0))
        assert (await harness.record(lease.ref)).deadline_at == before.deadline_at
        await harness.advance(400)
        assert await harness.sweep_all(Duty.EXPIRED) == 1
        assert (await harness.record(lease.ref)).reason == "deadline"

    async def test_a_waiting_job_past_its_deadline_is_spared_by_a_retry(self, harness: Harness) -> None:
        ref = await harness.enqueue(deadline_s=100.0, delay_s=600.0)
        await harness.advance(200)
        assert await harness.change(ref, RetryJobs()) is ChangeStatus.CHANGED
        assert (await harness.record(ref)).deadline_at is None
        assert await harness.sweep_all(Duty.EXPIRED) == 0

    async def test_the_time_to_start_counts_anew(self, harness: Harness) -> None:
        ref = await harness.finish(JobState.DEAD, schedule_to_start_s=60.0)
        await harness.advance(1000)
        await harness.change(ref, RetryJobs(delay_s=500.0))
        await harness.advance(530)
        assert await harness.sweep_all(Duty.EXPIRED) == 0
        (lease,) = await harness.claim()
        assert near_s(lease.start_in_s, 30)

    async def test_a_retry_begins_the_time_of_trying_anew(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.settle(lease, Retry(100, BOOM))
        await harness.advance(110)
        (lease,) = await harness.claim()
        assert near_s(lease.tried_for_s, 110)
        await harness.settle(lease, Dead(BOOM))
        await harness.advance(100)
        await harness.change(lease.ref, RetryJobs())
        await harness.advance(100)
        (third,) = await harness.claim()
        assert (third.attempt, third.tried_for_s) == (3, 0.0)
        await harness.settle(third, Retry(50, BOOM))
        await harness.advance(60)
        (fourth,) = await harness.claim()
        assert near_s(fourth.tried_for_s, 60)

    async def test_one_dead_letter_of_many_is_retried_alone(self, harness: Harness) -> None:
        refs = [await harness.finish(JobState.DEAD) for _ in range(3)]
        await harness.change(refs[1], RetryJobs())
        states = [await harness.state(ref) for ref in refs]
        assert states == [JobState.DEAD, JobState.READY, JobState.DEAD]

    async def test_a_retried_job_may_be_enqueued_beside(self, harness: Harness) -> None:
        ref = await harness.finish(JobState.DEAD)
        await harness.change(ref, RetryJobs(args=b'{"n":2}'))
        other = new_job()
        await harness.try_enqueue(other)
        assert {lease.ref for lease in await harness.claim()} == {ref, other.ref}
