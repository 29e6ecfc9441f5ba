"""Submitting jobs: one, or many of which a bad one never hurts the others."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from goqueue.model.errors import GoQueueError, IdConflict, KeyBusy, StoreUnavailable, UniqueConflict
from goqueue.model.job import JobRecord, NewJob
from goqueue.model.query import Enqueued, EnqueueStatus
from goqueue.model.state import StoredState, public_state
from goqueue.service.access import Caller, Scope
from goqueue.store.gather import Gatherer, store_each
from goqueue.tasks.codec import canonical
from goqueue.tasks.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from goqueue.store.port import JobStore

_ROUNDS_MAX = 3
"""Tries to read a job that an enqueue named and that was gone when we looked."""
_BRIEF_S = 0.25
"""For each item of a batch by itself, after the batch as a whole has waited for a key in vain."""


class SubmittedJob(JobRecord, frozen=True, kw_only=True):
    """A job as the answer to its submission. ``deduplicated``: it is the holder of the unique key."""

    deduplicated: bool = False


class Submitted(msgspec.Struct, frozen=True):
    """What became of a submission: the job, and whether it is new."""

    job: SubmittedJob
    created: bool


class Submission(msgspec.Struct, frozen=True):
    """A job to submit. ``again``: its id was made for it before, in an earlier try of the same request."""

    job: NewJob[object]
    again: bool = False


class _Item(msgspec.Struct, frozen=True):
    job: NewJob[object]
    plain: bool
    ours: bool
    """The id is of our making, now or in an earlier try: whatever job has it is this one."""


class Submitter:
    """Stores jobs for callers and tells them what became of them.

    Plain jobs are gathered. A job with a unique key can wait for an open transaction elsewhere, and one whose id its
    caller made may be a second try: these go alone, at most ``alone_max`` at once so that a pool of more connections
    has some left, and for at most ``key_wait_s`` seconds.
    """

    def __init__(
        self,
        store: JobStore,
        gatherer: Gatherer,
        *,
        key_wait_s: float,
        alone_max: int = 4,
        waiting_max: int,
        heard: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._gatherer = gatherer
        self._key_wait_s = key_wait_s
        self._alone = asyncio.Semaphore(alone_max)
        self._slots_wanted = 0
        self._waiting_max = waiting_max
        self._heard = heard

    async def one(self, caller: Caller, submission: Submission) -> Submitted:
        """Store one job. Raises `InvalidJob`, `UniqueConflict`, `IdConflict`, `KeyBusy`, `StoreUnavailable`."""
        caller.require(Scope.ENQUEUE)
        item = _prepared(caller, submission)
        for _ in range(_ROUNDS_MAX):
            if item.plain:
                enqueued = await self._gatherer.submit(item.job)
            else:
                enqueued = await self._enqueue_alone(item.job, self._key_wait_s)
            held = None
            if _needs_holder(enqueued):
                held = (await self._store.get(caller.tenant, [enqueued.ref.id]))[0]
                if held is None:  # it left between the two looks: the key, or the id, is free again
                    continue
            return _judge(item, enqueued, held)
        raise KeyBusy("the job that holds this key or id comes and goes; try again")

    def check(self, caller: Caller, submission: Submission) -> None:
        """Raise what `one` would raise without asking the store."""
        caller.require(Scope.ENQUEUE)
        prepare(submission.job, caller.tenant)

    async def many(
        self, caller: Caller, submissions: Sequence[Submission | GoQueueError]
    ) -> list[Submitted | Exception]:
        """Store many jobs; answers in order. An item that is an error already stays one.

        Raises `StoreUnavailable` when that is why not one of them was stored.
        """
        caller.require(Scope.ENQUEUE)
        answers: dict[int, Submitted | Exception] = {}
        plain: dict[int, _Item] = {}
        others: dict[int, _Item] = {}
        for i, submission in enumerate(submissions):
            try:
                if isinstance(submission, GoQueueError):
                    raise submission
                item = _prepared(caller, submission)
            except GoQueueError as e:
                answers[i] = e
            else:
                (plain if item.plain else others)[i] = item
        stored = await self._store_plain(plain) | await self._store_others(others)
        wanted = sorted({e.ref.id for e in stored.values() if isinstance(e, Enqueued) and _needs_holder(e)})
        found = await self._store.get(caller.tenant, wanted) if wanted else []
        holders = dict(zip(wanted, found, strict=True))
        for i, enqueued in stored.items():
            if isinstance(enqueued, Enqueued):
                answers[i] = _judge_or_error(plain.get(i) or others[i], enqueued, holders.get(enqueued.ref.id))
            else:
                answers[i] = enqueued
        _raise_if_down(answers.values())
        return [answers[i] for i in range(len(submissions))]

    async def _store_plain(self, items: dict[int, _Item]) -> dict[int, Enqueued | Exception]:
        if not items:
            return {}
        async with self._slot():
            stored = await store_each(self._store, [item.job for item in items.values()])
        self._note(stored)
        return dict(zip(items, stored, strict=True))

    async def _store_others(self, items: dict[int, _Item]) -> dict[int, Enqueued | Exception]:
        if not items:
            return {}
        jobs = [item.job for item in items.values()]
        try:
            async with self._slot(), asyncio.timeout(self._key_wait_s):
                stored = await store_each(self._store, jobs, retry=True)
            self._note(stored)
        except TimeoutError:
            # One of them waits for somebody's transaction, as all have for key_wait_s. Now each by itself and
            # briefly, so that only that one is refused.
            stored = list(await asyncio.gather(*(self._alone_or_error(job) for job in jobs)))
        return dict(zip(items, stored, strict=True))

    async def _alone_or_error(self, job: NewJob[object]) -> Enqueued | Exception:
        try:
            return await self._enqueue_alone(job, min(_BRIEF_S, self._key_wait_s))
        except Exception as e:  # it becomes this item's answer
            return e

    async def _enqueue_alone(self, job: NewJob[object], wait_s: float) -> Enqueued:
        try:
            async with self._slot(), asyncio.timeout(wait_s):
                enqueued = (await self._store.enqueue([job], retry=True))[0]
        except TimeoutError:
            raise KeyBusy(
                f"an open transaction elsewhere held this job's key or id for {wait_s:g} s; try again"
            ) from None
        except StoreUnavailable:
            self._heard(False)
            raise
        self._heard(True)
        return enqueued

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._slots_wanted >= self._waiting_max:
            raise StoreUnavailable(f"{self._waiting_max} submissions wait for the store already; try again later")
        self._slots_wanted += 1
        try:
            async with self._alone:
                yield
        finally:
            self._slots_wanted -= 1

    def _note(self, stored: Sequence[Enqueued | Exception]) -> None:
        self._heard(not any(isinstance(answer, StoreUnavailable) for answer in stored))


def _prepared(caller: Caller, submission: Submission) -> _Item:
    # An id that we make now is new to the world: an insert of it can neither collide nor wait.
    plain = submission.job.unique is None and not submission.job.id
    return _Item(prepare(submission.job, caller.tenant), plain, submission.again or not submission.job.id)


def _needs_holder(enqueued: Enqueued) -> bool:
    return enqueued.status in (EnqueueStatus.EXISTS, EnqueueStatus.DUPLICATE, EnqueueStatus.REPLACED)


def _judge_or_error(item: _Item, enqueued: Enqueued, held: JobRecord | None) -> Submitted | Exception:
    if held is None and _needs_holder(enqueued):
        return KeyBusy("the job that held this key or id has just gone; try again")
    try:
        return _judge(item, enqueued, held)
    except GoQueueError as e:
        return e


def _judge(item: _Item, enqueued: Enqueued, held: JobRecord | None) -> Submitted:
    """Say what an enqueue means to its caller. ``held`` is the stored job for the answers that name another one."""
    if enqueued.status is EnqueueStatus.REJECTED and enqueued.ref.id != item.job.id:
        raise UniqueConflict(f"job {enqueued.ref.id} holds this unique key", enqueued.ref.id)
    if held is None:
        return _created(item.job, enqueued)
    if held.id != item.job.id:
        return Submitted(_as_submitted(held, deduplicated=True), created=False)
    if not item.ours and not _same(item.job, held):
        raise IdConflict(f"a different job with the id {held.id} exists already")
    return Submitted(_as_submitted(held), created=item.ours)


def _raise_if_down(answers: Iterable[Submitted | Exception]) -> None:
    down: StoreUnavailable | None = None
    for answer in answers:
        if isinstance(answer, Submitted):
            return
        if isinstance(answer, StoreUnavailable):
            down = answer
    if down is not None:
        raise down


def _created(job: NewJob[object], enqueued: Enqueued) -> Submitted:
    """Compose the record of a job that was just stored from what was sent and the store's instants: no second trip."""
    created_at, run_at = enqueued.created_at, enqueued.run_at
    if created_at is None or run_at is None:
        raise RuntimeError(f"the store answered {enqueued.status} without instants")
    # A store may read its clock once more for run_at; what was not delayed is ready all the same.
    wanted_at = created_at if job.run_at is None else job.run_at
    due_at = run_at if job.delay_s or wanted_at > created_at else created_at
    unique_key = job.unique.key if job.unique is not None else None
    record = SubmittedJob(
        id=enqueued.ref.id,
        kind=job.kind,
        args=msgspec.Raw(job.args),
        queue=job.queue,
        priority=job.priority,
        state=public_state(StoredState.WAITING, due_at, 0, created_at),
        attempt=0,
        max_attempts=job.max_attempts,
        crashes=0,
        max_crashes=job.max_crashes,
        run_at=run_at,
        created_at=created_at,
        timeout_s=job.timeout_s,
        schedule_to_start_s=job.schedule_to_start_s,
        deadline_at=None if job.deadline_s is None else created_at + timedelta(seconds=job.deadline_s),
        retry=job.retry,
        tags=job.tags,
        meta=job.meta,
        unique_key=unique_key,
        tenant=job.tenant,
    )
    return Submitted(record, created=True)


def _as_submitted(record: JobRecord, *, deduplicated: bool = False) -> SubmittedJob:
    fields = {name: getattr(record, name) for name in JobRecord.__struct_fields__}
    return SubmittedJob(**fields, deduplicated=deduplicated)


def _same(job: NewJob[object], stored: JobRecord) -> bool:
    """Is ``stored`` what ``job`` asks for? Instants are left out: a delay counts from the first try."""
    # A manual retry may have granted more attempts since.
    attempts = stored.max_attempts == job.max_attempts or (
        stored.max_attempts > job.max_attempts and stored.attempt >= job.max_attempts
    )
    return (
        attempts
        and stored.kind == job.kind
        and stored.queue == job.queue
        and stored.priority == job.priority
        and stored.timeout_s == job.timeout_s
        and stored.schedule_to_start_s == job.schedule_to_start_s
        and (stored.deadline_at is None) == (job.deadline_s is None)
        and stored.retry == job.retry
        and sorted(stored.tags) == sorted(job.tags)
        and stored.meta == job.meta
        and (job.unique is None or job.unique.key is None or stored.unique_key == job.unique.key)
        and (job.unique is not None or stored.unique_key is None)
        and canonical(bytes(stored.args)) == canonical(job.args)
    )
