"""Settle: what each outcome makes of a job, and what a write under a wrong fence gets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from goqueue.model import limits
from goqueue.model.admin import Duty
from goqueue.model.job import ErrorInfo, JobRef
from goqueue.model.outcome import Answer, Cancel, Complete, Crash, Dead, Release, Retry, Settlement, Snooze
from goqueue.model.query import CancelJobs, DeleteJobs, RetryJobs
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, TTL_S, json_of, near, new_id, new_job

if TYPE_CHECKING:
    from goqueue.model.outcome import Outcome
    from goqueue.store.conformance.harness import Harness

ALL: tuple[Outcome, ...] = (
    Complete(b'{"n":1}'),
    Retry(0, BOOM),
    Snooze(0),
    Cancel("no"),
    Dead(BOOM),
    Release(),
    Crash(BOOM),
)


class SettleCases:
    """Outcomes."""

    async def test_complete_keeps_the_result(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.advance(20)
        assert await harness.settle(lease, Complete(b'{"x":[1,"\xc3\xa9"]}')) is Answer.APPLIED
        record = await harness.record(lease.ref)
        assert (record.state, record.attempt, record.errors) == (JobState.COMPLETED, 1, ())
        assert json_of(record.result) == {"x": [1, "é"]}
        assert near(record.finished_at, record.attempted_at, 20)
        assert record.reason is None

    async def test_no_result_differs_from_the_result_null(self, harness: Harness) -> None:
        none, null = await harness.run(), await harness.run()
        await harness.settle(none, Complete())
        await harness.settle(null, Complete(b"null"))
        assert (await harness.record(none.ref)).result is None
        result = (await harness.record(null.ref)).result
        assert result is not None
        assert bytes(result) == b"null"

    async def test_retry_waits_and_keeps_the_error(self, harness: Harness) -> None:
        lease = await harness.run()
        assert await harness.settle(lease, Retry(600, BOOM)) is Answer.APPLIED
        record = await harness.record(lease.ref)
        assert (record.state, record.attempt, record.crashes) == (JobState.RETRYING, 1, 0)
        assert (record.worker_id, record.finished_at, record.reason) == (None, None, None)
        assert near(record.run_at, record.attempted_at, 600)
        (error,) = record.errors
        assert (error.attempt, error.type, error.message, error.traceback) == (1, "ValueError", "boom", BOOM.traceback)
        assert near(error.at, record.attempted_at)
        await harness.advance(700)
        assert [again.ref for again in await harness.claim()] == [lease.ref]

    async def test_retry_without_delay_is_due_at_once(self, harness: Harness) -> None:
        for delay_s in (0.0, -5.0):
            lease = await harness.run()
            await harness.settle(lease, Retry(delay_s, BOOM))
            record = await harness.record(lease.ref)
            assert record.state is JobState.READY
            assert near(record.run_at, record.attempted_at)
            (again,) = await harness.claim()
            await harness.settle(again, Complete())

    async def test_only_the_last_errors_are_kept(self, harness: Harness) -> None:
        count = limits.ERRORS_KEPT_MAX + 3
        ref = await harness.enqueue(max_attempts=count)
        worker = await harness.worker()
        for number in range(1, count):
            (lease,) = await harness.claim(worker)
            await harness.settle(lease, Retry(0, ErrorInfo("E", f"number {number}")))
        (lease,) = await harness.claim(worker)
        await harness.settle(lease, Dead(ErrorInfo("E", f"number {count}")))
        errors = (await harness.record(ref)).errors
        assert [error.attempt for error in errors] == list(range(4, count + 1))
        assert [error.message for error in errors] == [f"number {n}" for n in range(4, count + 1)]

    async def test_snooze_spends_no_attempt(self, harness: Harness) -> None:
        lease = await harness.run()
        assert await harness.settle(lease, Snooze(600, "not yet")) is Answer.APPLIED
        record = await harness.record(lease.ref)
        assert (record.state, record.attempt, record.worker_id, record.errors) == (JobState.SCHEDULED, 0, None, ())
        assert near(record.run_at, record.attempted_at, 600)

    async def test_release_spends_no_attempt_and_is_due_at_once(self, harness: Harness) -> None:
        lease = await harness.run()
        assert await harness.settle(lease, Release()) is Answer.APPLIED
        record = await harness.record(lease.ref)
        assert (record.state, record.attempt, record.worker_id) == (JobState.READY, 0, None)
        assert near(record.run_at, record.attempted_at)

    async def test_cancel_keeps_the_reason(self, harness: Harness) -> None:
        lease = await harness.run()
        assert await harness.settle(lease, Cancel("not wanted")) is Answer.APPLIED
        record = await harness.record(lease.ref)
        assert (record.state, record.reason, record.result) == (JobState.CANCELLED, "not wanted", None)
        assert near(record.finished_at, record.attempted_at)

    async def test_cancel_without_words_has_a_reason(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.settle(lease, Cancel())
        assert (await harness.record(lease.ref)).reason == "cancelled"

    async def test_dead_keeps_reason_and_error(self, harness: Harness) -> None:
        lease = await harness.run()
        assert await harness.settle(lease, Dead(BOOM, "not_retryable")) is Answer.APPLIED
        record = await harness.record(lease.ref)
        assert (record.state, record.reason, record.attempt) == (JobState.DEAD, "not_retryable", 1)
        assert [(error.attempt, error.message) for error in record.errors] == [(1, "boom")]
        assert near(record.finished_at, record.attempted_at)

    async def test_a_final_job_remembers_who_ran_it(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker)
        await harness.settle(lease, Complete())
        assert (await harness.record(lease.ref)).worker_id == worker

    async def test_an_enormous_delay_is_bounded(self, harness: Harness) -> None:
        for delay_s in (1e300, float("inf")):
            lease = await harness.run()
            assert await harness.settle(lease, Retry(delay_s, BOOM)) is Answer.APPLIED
            record = await harness.record(lease.ref)
            assert record.state is JobState.RETRYING
            assert near(record.run_at, record.attempted_at, limits.DELAY_S_MAX)

    # -- requested cancellations ------------------------------------------------------------------------

    async def test_a_job_to_be_cancelled_does_not_wait_again(self, harness: Harness) -> None:
        for outcome, attempt in ((Retry(600, BOOM), 1), (Snooze(600), 0), (Release(), 0)):
            lease = await harness.run()
            await harness.change(lease.ref, CancelJobs())
            assert await harness.settle(lease, outcome) is Answer.APPLIED
            record = await harness.record(lease.ref)
            assert (record.state, record.reason, record.attempt) == (JobState.CANCELLED, "cancelled", attempt)
            assert record.finished_at is not None
            assert len(record.errors) == (1 if isinstance(outcome, Retry) else 0)
            assert await harness.settle(lease, outcome) is Answer.ALREADY

    async def test_a_job_to_be_cancelled_may_still_complete_or_die(self, harness: Harness) -> None:
        for outcome, state in ((Complete(b"1"), JobState.COMPLETED), (Dead(BOOM), JobState.DEAD)):
            lease = await harness.run()
            await harness.change(lease.ref, CancelJobs())
            assert await harness.settle(lease, outcome) is Answer.APPLIED
            assert await harness.state(lease.ref) is state

    # -- fences -----------------------------------------------------------------------------------------

    async def test_a_repeated_outcome_is_answered_already_and_changes_nothing(self, harness: Harness) -> None:
        for first in ALL:
            lease = await harness.run(queue=type(first).__name__)
            assert await harness.settle(lease, first) is Answer.APPLIED
            before = await harness.record(lease.ref)
            for second in ALL:
                assert await harness.settle(lease, second) is Answer.ALREADY
            assert await harness.record(lease.ref) == before

    async def test_an_old_fence_is_lost_once_the_job_is_claimed_again(self, harness: Harness) -> None:
        old = await harness.run()
        await harness.settle(old, Retry(0, BOOM))
        (new,) = await harness.claim()
        before = await harness.record(old.ref)
        for outcome in ALL:
            assert await harness.settle(old, outcome) is Answer.LOST
        assert await harness.record(old.ref) == before
        assert await harness.settle(new, Complete()) is Answer.APPLIED

    async def test_an_old_fence_is_lost_once_another_attempt_has_decided(self, harness: Harness) -> None:
        old = await harness.run()
        await harness.settle(old, Retry(0, BOOM))
        (new,) = await harness.claim()
        await harness.settle(new, Complete(b"1"))
        for outcome in ALL:
            assert await harness.settle(old, outcome) is Answer.LOST
        assert json_of((await harness.record(old.ref)).result) == 1

    async def test_a_swept_lease_is_lost(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.advance(2 * TTL_S)
        assert await harness.sweep_all(Duty.ORPHANS) == 1
        before = await harness.record(lease.ref)
        for outcome in ALL:
            assert await harness.settle(lease, outcome) is Answer.LOST
        assert await harness.record(lease.ref) == before

    async def test_a_lease_swept_to_its_death_is_lost(self, harness: Harness) -> None:
        lease = await harness.run(max_attempts=1)
        await harness.advance(2 * TTL_S)
        await harness.sweep_all(Duty.ORPHANS)
        for outcome in ALL:
            assert await harness.settle(lease, outcome) is Answer.LOST
        assert await harness.state(lease.ref) is JobState.DEAD

    async def test_a_late_outcome_counts_while_nobody_has_swept_the_job(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.advance(2 * TTL_S)
        assert await harness.settle(lease, Complete()) is Answer.APPLIED
        assert await harness.sweep_all(Duty.ORPHANS) == 0

    async def test_a_manual_retry_does_not_make_an_old_outcome_count_again(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.settle(lease, Dead(BOOM))
        await harness.change(lease.ref, RetryJobs())
        assert await harness.settle(lease, Complete()) is Answer.ALREADY
        assert await harness.state(lease.ref) is JobState.READY
        (again,) = await harness.claim()
        assert again.fence == lease.fence + 1
        assert await harness.settle(lease, Complete()) is Answer.LOST

    async def test_a_fence_from_the_future_is_lost(self, harness: Harness) -> None:
        lease = await harness.run()
        future = Settlement(lease.ref, lease.fence + 1, Complete())
        assert await harness.store.settle([future]) == [Answer.LOST]
        assert await harness.state(lease.ref) is JobState.RUNNING

    async def test_a_job_that_was_never_claimed_cannot_be_settled(self, harness: Harness) -> None:
        ref = await harness.enqueue()
        assert await harness.store.settle([Settlement(ref, 1, Complete())]) == [Answer.LOST]
        assert await harness.state(ref) is JobState.READY

    async def test_an_outcome_of_a_deleted_job_is_lost(self, harness: Harness) -> None:
        lease = await harness.run()
        await harness.settle(lease, Complete())
        await harness.change(lease.ref, DeleteJobs())
        assert await harness.settle(lease, Complete()) is Answer.LOST

    async def test_two_outcomes_of_one_lease_at_once_decide_it_once(self, harness: Harness) -> None:
        lease = await harness.run()
        answers = await asyncio.gather(*(harness.settle(lease, Complete(b"%d" % n)) for n in range(8)))
        assert answers.count(Answer.APPLIED) == 1
        assert set(answers) <= {Answer.APPLIED, Answer.ALREADY, Answer.BUSY}

    # -- batches ----------------------------------------------------------------------------------------

    async def test_a_mixed_batch_is_answered_in_its_order(self, harness: Harness) -> None:
        jobs = [new_job() for _ in ALL]
        await harness.store.enqueue(jobs)
        leases = await harness.claim(total=len(jobs))
        unknown = JobRef("default", "default", new_id())
        batch = [Settlement(unknown, 1, Complete())]
        batch += [Settlement(lease.ref, lease.fence, o) for lease, o in zip(leases, ALL, strict=True)]
        batch += [Settlement(leases[0].ref, leases[0].fence + 1, Complete())]
        assert await harness.store.settle(batch) == [Answer.LOST] + [Answer.APPLIED] * len(ALL) + [Answer.LOST]
        assert [await harness.state(lease.ref) for lease in leases] == [
            JobState.COMPLETED,
            JobState.READY,
            JobState.READY,
            JobState.CANCELLED,
            JobState.DEAD,
            JobState.READY,
            JobState.RETRYING,
        ]

    async def test_of_two_outcomes_for_one_lease_in_a_batch_the_first_counts(self, harness: Harness) -> None:
        for first in ALL:
            lease, other = await harness.run(queue="a"), await harness.run(queue="b")
            batch = [
                Settlement(lease.ref, lease.fence, first),
                Settlement(other.ref, other.fence, Complete()),
                Settlement(lease.ref, lease.fence, Complete(b'"second"')),
            ]
            assert await harness.store.settle(batch) == [Answer.APPLIED, Answer.APPLIED, Answer.ALREADY]
            record = await harness.record(lease.ref)
            assert json_of(record.result) != "second"
            await harness.change(lease.ref, DeleteJobs())

    async def test_an_empty_batch_of_outcomes_has_no_answers(self, harness: Harness) -> None:
        assert await harness.store.settle([]) == []

    async def test_bad_rows_do_not_hold_up_their_neighbours(self, harness: Harness) -> None:
        leases = [await harness.run() for _ in range(4)]
        bad = ErrorInfo("Bad\0Error", "nul \0 and surrogate \ud800", "\0")
        batch = [
            Settlement(leases[0].ref, leases[0].fence, Complete(b"1")),
            Settlement(leases[1].ref, leases[1].fence, Retry(0, bad)),
            Settlement(leases[2].ref, leases[2].fence, Complete(b"{not json")),
            Settlement(JobRef("default", "default", "no-uuid"), 1, Complete()),
            Settlement(leases[3].ref, leases[3].fence, Complete(b"2")),
        ]
        answers = await harness.store.settle(batch)
        assert (answers[0], answers[4]) == (Answer.APPLIED, Answer.APPLIED)
        assert answers[3] is Answer.LOST
        assert answers[1] in (Answer.APPLIED, Answer.BUSY)
        assert answers[2] in (Answer.APPLIED, Answer.BUSY)
        results = [json_of((await harness.record(leases[n].ref)).result) for n in (0, 3)]
        assert results == [1, 2]
