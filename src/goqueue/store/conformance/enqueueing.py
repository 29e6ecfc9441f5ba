"""Enqueue: what is stored, when it is due, ids that exist."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from goqueue.model.query import EnqueueStatus, Filter
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import json_of, near, new_job, unique

if TYPE_CHECKING:
    from goqueue.store.conformance.harness import Harness


class EnqueueCases:
    """New jobs."""

    async def test_a_job_keeps_every_field(self, harness: Harness) -> None:
        job = new_job(
            kind="mail.send",
            args='{"to":"ada@example.com","n":9007199254740993,"x":[1.5,null,true,"é\\ud83d\\ude00"]}'.encode(),
            queue="mail",
            priority=2,
            tenant="acme",
            max_attempts=7,
            max_crashes=2,
            timeout_s=12.5,
            tags=("a", 'quote " and \\ and , {}'),
            meta={"traceparent": "00-1", "k": "v"},
        )
        answer = await harness.try_enqueue(job)
        record = await harness.record(job.ref)
        assert (answer.status, answer.ref) == (EnqueueStatus.INSERTED, job.ref)
        assert (record.id, record.kind, record.queue, record.tenant) == (job.id, "mail.send", "mail", "acme")
        assert json_of(record.args) == json_of(job.args)
        assert b"9007199254740993" in bytes(record.args)
        assert (record.priority, record.max_attempts, record.max_crashes, record.timeout_s) == (2, 7, 2, 12.5)
        assert (record.tags, record.meta) == (job.tags, job.meta)
        assert (record.state, record.attempt, record.crashes, record.errors) == (JobState.READY, 0, 0, ())
        assert (record.attempted_at, record.finished_at, record.result, record.reason) == (None, None, None, None)
        assert (record.worker_id, record.unique_key, record.progress) == (None, None, None)
        assert (record.created_at, record.run_at) == (answer.created_at, answer.run_at)

    async def test_a_job_without_options_is_ready_at_once(self, harness: Harness) -> None:
        record = await harness.record(await harness.enqueue())
        assert record.state is JobState.READY
        assert near(record.run_at, record.created_at)

    async def test_a_delay_counts_from_the_stores_now(self, harness: Harness) -> None:
        await harness.advance(3600)
        ref = await harness.enqueue(delay_s=600)
        record = await harness.record(ref)
        assert record.state is JobState.SCHEDULED
        assert near(record.run_at, record.created_at, 600)
        await harness.advance(660)
        assert await harness.state(ref) is JobState.READY

    async def test_an_instant_in_another_time_zone_is_the_same_instant(self, harness: Harness) -> None:
        instant = datetime(2100, 1, 1, 12, tzinfo=UTC)
        job = new_job(run_at=instant)
        other = new_job(run_at=datetime.fromisoformat("2100-01-01T17:30:00+05:30"))
        await harness.store.enqueue([job, other])
        records = [await harness.record(job.ref), await harness.record(other.ref)]
        assert [record.run_at for record in records] == [instant, instant]
        assert all(record.run_at.utcoffset() == timedelta() for record in records)

    async def test_an_instant_in_the_past_counts_as_now(self, harness: Harness) -> None:
        waiting = await harness.enqueue()
        late = await harness.enqueue(run_at=datetime(2001, 1, 1, tzinfo=UTC))
        record = await harness.record(late)
        assert near(record.run_at, record.created_at)
        assert [lease.ref for lease in await harness.claim()] == [waiting, late]

    async def test_a_batch_is_answered_in_its_order(self, harness: Harness) -> None:
        jobs = [new_job(queue=f"q{i % 3}") for i in range(50)]
        jobs.reverse()
        answers = await harness.store.enqueue(jobs)
        assert [answer.ref for answer in answers] == [job.ref for job in jobs]
        assert {answer.status for answer in answers} == {EnqueueStatus.INSERTED}
        records = await harness.store.get("default", [job.id for job in jobs])
        assert [record and record.queue for record in records] == [job.queue for job in jobs]

    async def test_a_batch_happens_at_one_instant(self, harness: Harness) -> None:
        jobs = [new_job(unique=unique(str(n)) if n % 2 else None) for n in range(6)]
        answers = await harness.store.enqueue(jobs)
        assert len({answer.created_at for answer in answers} | {answer.run_at for answer in answers}) == 1
        assert [lease.id for lease in await harness.claim()] == [job.id for job in jobs]

    async def test_an_empty_batch_has_no_answers(self, harness: Harness) -> None:
        assert await harness.store.enqueue([]) == []

    async def test_the_largest_batch_is_stored(self, harness: Harness) -> None:
        jobs = [new_job() for _ in range(1000)]
        answers = await harness.store.enqueue(jobs)
        assert {answer.status for answer in answers} == {EnqueueStatus.INSERTED}
        assert sum(c.count for c in await harness.store.count(Filter())) == 1000

    async def test_an_id_that_is_there_is_not_stored_again(self, harness: Harness) -> None:
        job = new_job(args=b'{"n":1}')
        other = new_job(id=job.id, args=b'{"n":2}')
        await harness.try_enqueue(job)
        for retry in (False, True):
            answer = await harness.try_enqueue(other, retry=retry)
            assert (answer.status, answer.ref) == (EnqueueStatus.EXISTS, job.ref)
            assert (answer.created_at, answer.run_at) == (None, None)
        assert json_of((await harness.record(job.ref)).args) == {"n": 1}

    async def test_an_id_twice_in_a_batch_is_stored_once(self, harness: Harness) -> None:
        job = new_job(args=b'{"n":1}')
        neighbour = new_job()
        answers = await harness.store.enqueue([job, new_job(id=job.id, args=b'{"n":2}'), neighbour])
        assert [answer.status for answer in answers] == [
            EnqueueStatus.INSERTED,
            EnqueueStatus.EXISTS,
            EnqueueStatus.INSERTED,
        ]
        assert json_of((await harness.record(job.ref)).args) == {"n": 1}
        assert len(await harness.claim()) == 2

    async def test_an_id_twice_in_a_batch_is_stored_once_with_its_key(self, harness: Harness) -> None:
        job = new_job(unique=unique(), args=b'{"n":1}')
        answers = await harness.store.enqueue([job, msgspec.structs.replace(job, args=b'{"n":2}'), job])
        assert [a.status for a in answers] == [EnqueueStatus.INSERTED] + [EnqueueStatus.EXISTS] * 2
        assert {answer.ref for answer in answers} == {job.ref}
        assert json_of((await harness.record(job.ref)).args) == {"n": 1}

    async def test_of_one_id_with_and_without_a_key_the_first_is_stored(self, harness: Harness) -> None:
        for first in (unique("first"), None):
            job = new_job(unique=first)
            other = msgspec.structs.replace(job, unique=None if first else unique("second"))
            answers = await harness.store.enqueue([job, other])
            assert [a.status for a in answers] == [EnqueueStatus.INSERTED, EnqueueStatus.EXISTS]
            assert (await harness.record(job.ref)).unique_key == (first.key if first else None)

    async def test_a_blind_retry_of_a_batch_stores_only_what_was_lost(self, harness: Harness) -> None:
        jobs = [new_job() for _ in range(4)]
        await harness.store.enqueue(jobs[:2])
        answers = await harness.store.enqueue(jobs, retry=True)
        assert [a.status for a in answers] == [EnqueueStatus.EXISTS] * 2 + [EnqueueStatus.INSERTED] * 2
        assert len(await harness.claim()) == 4

    async def test_a_blind_retry_does_not_repeat_a_job_that_is_running(self, harness: Harness) -> None:
        job = new_job()
        await harness.try_enqueue(job)
        await harness.claim()
        assert (await harness.try_enqueue(job, retry=True)).status is EnqueueStatus.EXISTS
        assert await harness.claim() == []

    async def test_a_blind_retry_does_not_repeat_a_job_that_is_history(self, harness: Harness) -> None:
        for state in (JobState.COMPLETED, JobState.CANCELLED, JobState.DEAD):
            ref = await harness.finish(state)
            assert (await harness.try_enqueue(new_job(id=ref.id), retry=True)).status is EnqueueStatus.EXISTS
            assert await harness.claim() == []
            assert await harness.state(ref) is state

    async def test_concurrent_enqueues_of_one_id_make_one_job(self, harness: Harness) -> None:
        job = new_job()
        answers = await asyncio.gather(*(harness.try_enqueue(job, retry=True) for _ in range(16)))
        statuses = sorted(answer.status for answer in answers)
        assert statuses == sorted([EnqueueStatus.INSERTED] + [EnqueueStatus.EXISTS] * 15)
        assert len(await harness.claim()) == 1

    async def test_a_paused_queue_takes_jobs(self, harness: Harness) -> None:
        await harness.store.pause("default", "default", True)
        assert await harness.state(await harness.enqueue()) is JobState.READY
