"""Progress and logs: what attempts say of themselves, with a beat or with their outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goqueue.model import limits
from goqueue.model.lease import Held
from goqueue.model.outcome import (
    Answer,
    Cancel,
    Complete,
    Crash,
    Dead,
    NewLog,
    Note,
    Release,
    Retry,
    Settlement,
    Snooze,
)
from goqueue.model.query import CancelJobs, RetryJobs
from goqueue.model.state import JobState
from goqueue.store.conformance.harness import BOOM, NO_TRACE, json_of, near

if TYPE_CHECKING:
    from goqueue.model.job import JobRef
    from goqueue.model.lease import Lease
    from goqueue.model.outcome import Outcome
    from goqueue.store.conformance.harness import Harness


def _lines(*messages: str, first: int = 1) -> tuple[NewLog, ...]:
    return tuple(NewLog(first + i, "info", message) for i, message in enumerate(messages))


def _held(lease: Lease, *logs: NewLog, progress: bytes | None = None) -> Held:
    return Held(lease.ref, lease.fence, progress, logs)


async def _messages(harness: Harness, ref: JobRef) -> list[str]:
    return [log.message for log in (await harness.record(ref)).logs]


async def _settle(harness: Harness, lease: Lease, outcome: Outcome, note: Note) -> Answer:
    (answer,) = await harness.store.settle([Settlement(lease.ref, lease.fence, outcome, note)])
    return answer


class NoteCases:
    """Progress and logs."""

    async def test_a_beat_brings_lines_which_are_added(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker)
        await harness.beat(worker, held=[_held(lease, NewLog(1, "warning", "é\n'\"", age_s=0.0))])
        await harness.beat(worker, held=[_held(lease, *_lines("two", "three", first=2))])
        record = await harness.record(lease.ref)
        assert [(log.attempt, log.level, log.message) for log in record.logs] == [
            (1, "warning", "é\n'\""),
            (1, "info", "two"),
            (1, "info", "three"),
        ]
        assert all(near(log.at, record.attempted_at) for log in record.logs)

    async def test_the_store_says_when_it_was(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker)
        await harness.beat(worker, held=[_held(lease, NewLog(1, "info", "a minute ago", age_s=60.0))])
        await _settle(harness, lease, Complete(), Note(logs=(NewLog(2, "info", "two minutes ago", age_s=120.0),)))
        record = await harness.record(lease.ref)
        assert near(record.logs[0].at, record.attempted_at, -60.0)
        assert near(record.logs[1].at, record.attempted_at, -120.0)

    async def test_lines_alone_keep_the_progress_and_progress_the_lines(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker)
        await harness.beat(worker, held=[_held(lease, *_lines("one"), progress=b"1")])
        await harness.beat(worker, held=[_held(lease, progress=b"2")])
        await harness.beat(worker, held=[_held(lease, *_lines("two", first=2))])
        await harness.beat(worker, held=[_held(lease)])
        record = await harness.record(lease.ref)
        assert (json_of(record.progress), [log.message for log in record.logs]) == (2, ["one", "two"])

    async def test_lines_that_come_again_are_added_once(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker)
        for _ in range(2):  # the answer to the first beat was lost
            await harness.beat(worker, held=[_held(lease, *_lines("one", "two"))])
        await harness.beat(worker, held=[_held(lease, *_lines("two", "three", first=2))])
        note = Note(logs=_lines("three", "four", first=3))
        assert await _settle(harness, lease, Complete(), note) is Answer.APPLIED
        assert await _settle(harness, lease, Complete(), note) is Answer.ALREADY
        assert await _messages(harness, lease.ref) == ["one", "two", "three", "four"]

    async def test_each_attempt_counts_its_lines_anew(self, harness: Harness) -> None:
        worker = await harness.worker()
        first = await harness.run(worker)
        note = Note(logs=_lines("one", "two"))
        assert await _settle(harness, first, Retry(0, BOOM), note) is Answer.APPLIED
        assert await _settle(harness, first, Retry(0, BOOM), note) is Answer.ALREADY
        (second,) = await harness.claim(worker)
        await harness.beat(worker, held=[_held(second, *_lines("three"))])
        assert await _settle(harness, second, Complete(), Note(logs=_lines("three", "four"))) is Answer.APPLIED
        logs = (await harness.record(first.ref)).logs
        assert [(log.attempt, log.message) for log in logs] == [(1, "one"), (1, "two"), (2, "three"), (2, "four")]

    async def test_only_the_newest_lines_are_kept(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker)
        kept = limits.LOGS_KEPT_MAX
        await harness.beat(worker, held=[_held(lease, *_lines(*(str(n) for n in range(kept))))])
        await harness.beat(worker, held=[_held(lease, *_lines(str(kept), first=kept + 1))])
        await _settle(harness, lease, Complete(), Note(logs=_lines(str(kept + 1), first=kept + 2)))
        assert await _messages(harness, lease.ref) == [str(n) for n in range(2, kept + 2)]

    async def test_what_no_beat_has_brought_comes_with_every_outcome(self, harness: Harness) -> None:
        outcomes = (
            (Complete(b"1"), JobState.COMPLETED),
            (Dead(BOOM), JobState.DEAD),
            (Cancel("no"), JobState.CANCELLED),
            (Crash(BOOM), JobState.RETRYING),
            (Retry(60, BOOM), JobState.RETRYING),
            (Snooze(60), JobState.SCHEDULED),
            (Release(), JobState.READY),
        )
        for outcome, state in outcomes:
            lease = await harness.run(await harness.worker(), queue=str(state) + type(outcome).__name__)
            await _settle(harness, lease, outcome, Note(b'{"at":9}', _lines("last words")))
            record = await harness.record(lease.ref)
            assert (record.state, json_of(record.progress)) == (state, {"at": 9})
            assert [log.message for log in record.logs] == ["last words"]

    async def test_notes_go_along_with_a_claim_each_to_its_own_job(self, harness: Harness) -> None:
        worker = await harness.worker()
        leases = [await harness.run(worker) for _ in range(4)]
        stale = Settlement(leases[3].ref, leases[3].fence - 1, Complete(), Note(b'"stale"', _lines("stale")))
        settlements = [
            Settlement(leases[0].ref, leases[0].fence, Complete(), Note(logs=_lines("a"))),
            stale,
            Settlement(leases[1].ref, leases[1].fence, Complete()),
            Settlement(leases[2].ref, leases[2].fence, Complete(), Note(b'"c"')),
        ]
        answers = await harness.store.settle(settlements)
        assert list(answers) == [Answer.APPLIED, Answer.LOST, Answer.APPLIED, Answer.APPLIED]
        records = [await harness.record(lease.ref) for lease in leases]
        assert [[log.message for log in record.logs] for record in records] == [["a"], [], [], []]
        assert [json_of(record.progress) for record in records] == [None, None, "c", None]
        assert records[3].state is JobState.RUNNING

    async def test_under_an_old_fence_nothing_is_kept(self, harness: Harness) -> None:
        worker = await harness.worker()
        old = await harness.run(worker)
        await harness.settle(old, Retry(0, BOOM))
        (new,) = await harness.claim(await harness.worker())
        beaten = await harness.beat(worker, held=[_held(old, *_lines("old"), progress=b'"old"')])
        assert beaten.lost == (new.ref,)
        note = Note(b'"old"', _lines("old"))
        assert await _settle(harness, old, Complete(), note) is Answer.LOST
        record = await harness.record(new.ref)
        assert (record.progress, record.logs) == (None, ())

    async def test_a_job_that_waits_again_takes_no_note(self, harness: Harness) -> None:
        lease = await harness.run(await harness.worker())
        await harness.settle(lease, Retry(60, BOOM))
        assert await _settle(harness, lease, Retry(60, BOOM), Note(b"1", _lines("late"))) is Answer.ALREADY
        record = await harness.record(lease.ref)
        assert (record.progress, record.logs) == (None, ())

    async def test_the_lines_stay_through_cancel_sweep_and_retry(self, harness: Harness) -> None:
        worker = await harness.worker()
        lease = await harness.run(worker)
        await harness.beat(worker, held=[_held(lease, *_lines("one"))])
        await harness.lose(lease)
        assert await _messages(harness, lease.ref) == ["one"]
        await harness.change(lease.ref, CancelJobs())
        assert await _messages(harness, lease.ref) == ["one"]
        await harness.change(lease.ref, RetryJobs())
        assert await _messages(harness, lease.ref) == ["one"]

    async def test_of_a_job_that_is_not_kept_nothing_stays(self, harness: Harness) -> None:
        lease = await harness.run(await harness.worker(), queue=NO_TRACE)
        assert await _settle(harness, lease, Complete(), Note(b"1", _lines("one"))) is Answer.APPLIED
        assert await harness.find(lease.ref) is None
