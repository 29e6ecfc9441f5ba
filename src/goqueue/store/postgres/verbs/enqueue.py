"""Store jobs: plain ones in one statement, keyed ones each only if it takes its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from psycopg.errors import UniqueViolation

from goqueue.model.errors import KeyBusy, LeaseLost
from goqueue.model.job import JobRef, OnConflict
from goqueue.model.query import Enqueued, EnqueueStatus
from goqueue.model.state import StoredState
from goqueue.store.postgres import pack
from goqueue.store.postgres.rows import earliest_expiry, utc
from goqueue.store.postgres.statement import Plan, Rows, Statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from goqueue.model.job import NewJob, Unique

_NO_TOPICS: Final = pack.texts([])
_encode = msgspec.json.Encoder().encode
_ROUNDS_MAX: Final = 50
"""A key can change hands between a conflict and the look at its holder; then the enqueue is tried again."""
_LOOKS_MAX: Final = 10
"""How often a holder that waits, but is locked, is looked at again: who holds it open for long is not waited for."""
_LOOK_S: Final = 0.01
_HOLDS_KEY: Final = 1
_LIMITED: Final = 64
_UNTIL_STARTED: Final = 128
_BIT: Final = {"completed": StoredState.COMPLETED, "cancelled": StoredState.CANCELLED, "dead": StoredState.DEAD}


class Sorted(NamedTuple):
    """The places of jobs in a batch, by the statement that stores them: plain ones have a narrow one of their own."""

    plain: list[int]
    limited: list[int]
    """They bring limits in time, or retry delays of their own."""
    keyed: list[int]
    again: list[int]
    """Their ids came before in this batch."""

    @property
    def statements(self) -> int:
        """How many statements store the batch at least."""
        return bool(self.plain) + bool(self.limited) + bool(self.keyed) + len(self.again)


def sort(jobs: Sequence[NewJob[Any]]) -> Sorted:
    """Sort a batch by the statements that store it."""
    seen: set[str] = set()
    places = Sorted([], [], [], [])
    plain = places.plain
    for i, job in enumerate(jobs):
        if job.id in seen:
            places.again.append(i)
            continue
        seen.add(job.id)
        if job.unique is not None:
            places.keyed.append(i)
        elif _has_limits(job):
            places.limited.append(i)
        else:
            plain.append(i)
    return places


def _has_limits(job: NewJob[Any]) -> bool:
    return job.retry is not None or job.schedule_to_start_s is not None or job.deadline_s is not None


def enqueue(
    jobs: Sequence[NewJob[Any]],
    *,
    retry: bool = False,
    now: datetime | None = None,
    places: Sorted | None = None,
    may_fail: bool = False,
) -> Plan[list[Enqueued]]:
    """Store prepared jobs; see ``AsyncJobStore.enqueue``. With ``retry`` the caller runs it in one transaction.

    ``places`` is what `sort` says of them, if the caller knows. ``may_fail``: a statement that fails leaves no
    transaction behind that has failed with it, so the fast one can be tried first.
    """
    answers: list[Enqueued | None] = [None] * len(jobs)
    plain, limited, keyed, again = sort(jobs) if places is None else places
    if bool(plain) + bool(limited) + bool(keyed) > 1 and now is None:
        # Several statements, one instant: a batch keeps its order.
        rows = yield Statement("clock", indexed=False)
        now = rows[0][0]
    if plain:
        yield from _plain(jobs, plain, answers, now, may_fail=may_fail)
    if limited:
        yield from _limited(jobs, limited, answers, now)
    if keyed and retry:
        # What an earlier try stored may be history, and its key another's: that must not count as a conflict now.
        ids = [jobs[i].id for i in keyed]
        rows = yield Statement("history_ids", (pack.uuids(ids), earliest_expiry(ids)))
        final = {row[0] for row in rows}
        for i in keyed:
            if jobs[i].id in final:
                answers[i] = Enqueued(EnqueueStatus.EXISTS, jobs[i].ref)
        keyed = [i for i in keyed if answers[i] is None]
    if keyed:
        yield from _keyed(jobs, keyed, answers, now)
    for i in again:
        answers[i] = (yield from enqueue([jobs[i]], now=now))[0]
    done = [a for a in answers if a is not None]
    assert len(done) == len(jobs)
    if retry:
        yield from _undo(done)
    return done


def waking(statement: Statement, topics: tuple[str, ...]) -> Statement:
    """Let the statement that stores jobs, alone in its transaction, send wake-ups with its commit."""
    if not topics:
        return statement
    match statement.name:
        case "enqueue_one":
            return msgspec.structs.replace(statement, params=(*statement.params[:-1], topics[0]))
        case "enqueue" | "enqueue_new":
            return msgspec.structs.replace(statement, params=(*statement.params[:-1], pack.texts(topics)))
        case _:
            return msgspec.structs.replace(statement, wake=topics)


def enqueue_by(
    jobs: Sequence[NewJob[Any]], by: JobRef, fence: int, now: datetime | None = None
) -> Plan[list[Enqueued]]:
    """As `enqueue`, but only under a valid lease. The caller runs it in one transaction."""
    rows = yield Statement("enqueue_by", (now, by.id, fence))
    if not rows:
        raise LeaseLost(f"job {by.id} is no longer leased under fence {fence}: nothing was enqueued")
    return (yield from enqueue(jobs, now=now))


def notify_idle(jobs: Sequence[NewJob[Any]], now: datetime | None = None) -> Plan[None]:
    """Wake idle workers when the caller's transaction commits."""
    for tenant in sorted({job.tenant for job in jobs}):
        queues = sorted({job.queue for job in jobs if job.tenant == tenant})
        yield Statement("notify_idle", (now, tenant, queues), indexed=False)


def _plain(
    jobs: Sequence[NewJob[Any]],
    which: list[int],
    answers: list[Enqueued | None],
    now: datetime | None,
    *,
    may_fail: bool,
) -> Plan[None]:
    if len(which) == 1:
        rows = yield Statement("enqueue_one", _one(jobs[which[0]], now), indexed=False)
    else:
        params = (*_columns([jobs[i] for i in which], now), _NO_TOPICS)
        if may_fail:
            try:
                rows = yield Statement("enqueue_new", params, indexed=False)
            except UniqueViolation:  # an id that is there: rare, for ids are made for the enqueue
                pass
            else:
                _note_all(jobs, which, rows, answers)
                return
        rows = yield Statement("enqueue", params, indexed=False)
    _note(jobs, which, rows, answers)
    _note_existing(jobs, which, answers)


def _note_all(jobs: Sequence[NewJob[Any]], which: list[int], rows: Rows, answers: list[Enqueued | None]) -> None:
    """Answer ``inserted`` for all, from the rows of `enqueue_new`."""
    now, inserted = utc(rows[0][1]), EnqueueStatus.INSERTED
    for i in which:
        answers[i] = Enqueued(inserted, jobs[i].ref, now, now)
    if len(rows) > 1:
        later = {row[0]: utc(row[2]) for row in rows[1:]}
        for i in which:
            if jobs[i].id in later:
                answers[i] = Enqueued(inserted, jobs[i].ref, now, later[jobs[i].id])


def _limited(
    jobs: Sequence[NewJob[Any]], which: list[int], answers: list[Enqueued | None], now: datetime | None
) -> Plan[None]:
    rows = yield Statement("enqueue_limited", _limited_columns([jobs[i] for i in which], now), indexed=False)
    _note(jobs, which, rows, answers)
    _note_existing(jobs, which, answers)


def _note_existing(jobs: Sequence[NewJob[Any]], which: list[int], answers: list[Enqueued | None]) -> None:
    for i in which:
        if answers[i] is None:
            answers[i] = Enqueued(EnqueueStatus.EXISTS, jobs[i].ref)


def _note(
    jobs: Sequence[NewJob[Any]], which: list[int], rows: Sequence[tuple[Any, ...]], answers: list[Enqueued | None]
) -> None:
    """Answer ``inserted`` for each row; of the same id twice in one batch, the first was inserted."""
    inserted = {row[0]: (row[1], row[2]) for row in rows}
    for i in which:
        found = inserted.pop(jobs[i].id, None)
        if found is not None:
            answers[i] = Enqueued(EnqueueStatus.INSERTED, jobs[i].ref, utc(found[0]), utc(found[1]))


def _keyed(
    jobs: Sequence[NewJob[Any]], which: list[int], answers: list[Enqueued | None], now: datetime | None
) -> Plan[None]:
    started: set[str] = set()
    for _ in range(_ROUNDS_MAX):
        rows = yield Statement("enqueue_keyed", _keyed_columns([jobs[i] for i in which], now))
        _note(jobs, which, rows, answers)
        which = [i for i in which if answers[i] is None]
        if not which:
            return
        wanted = _keys([jobs[i] for i in which])
        rows = yield Statement("enqueue_holders", (now, *wanted, pack.uuids([jobs[i].id for i in which])))
        expired = []
        for nth, holder, lapsed, exists in rows:
            i = which[nth]
            if exists:
                answers[i] = Enqueued(EnqueueStatus.EXISTS, jobs[i].ref)
            elif lapsed:
                expired.append(i)
            elif holder == jobs[i].id:  # it has run, and its key is all that is left of it
                answers[i] = Enqueued(EnqueueStatus.EXISTS, jobs[i].ref)
            elif holder is not None:
                answers[i] = yield from _met(jobs[i], holder, started, now)
        if expired:
            yield Statement("enqueue_expire_keys", (now, *_keys([jobs[i] for i in expired])))
        which = [i for i in which if answers[i] is None]
        if not which:
            return
    raise KeyBusy("the unique key changed hands again and again meanwhile: try again")


def _met(job: NewJob[Any], holder: str, started: set[str], now: datetime | None) -> Plan[Enqueued | None]:
    """Answer for a job whose key is held. None: try again, for the holder may just have freed the key by being started.

    ``started`` has the ids of jobs that have tried again already.
    """
    assert job.unique is not None
    ref = JobRef(job.tenant, job.queue, holder)
    match job.unique.on_conflict:
        case OnConflict.REJECT:
            return Enqueued(EnqueueStatus.REJECTED, ref)
        case OnConflict.REPLACE:
            rows = yield from _replaced(job, holder, now)
            if not rows and job.unique.until_started and job.id not in started:
                started.add(job.id)
                return None
            return Enqueued(EnqueueStatus.REPLACED if rows else EnqueueStatus.DUPLICATE, ref)
        case OnConflict.RETURN:
            return Enqueued(EnqueueStatus.DUPLICATE, ref)


def _replaced(job: NewJob[Any], holder: str, now: datetime | None) -> Plan[Rows]:
    """Renew the holder. One that waits, but that somebody else renews just now, is tried again for a short while."""
    assert job.unique is not None
    replacement = _replacement(job, holder, now)
    for _ in range(_LOOKS_MAX):
        rows = yield Statement("enqueue_replace", replacement)
        if rows or not (yield Statement("enqueue_waits", (holder, job.unique.digest, _LOOK_S))):
            return rows
    return (yield Statement("enqueue_replace", replacement))


def _undo(answers: list[Enqueued]) -> Plan[None]:
    inserted = [a.ref.id for a in answers if a.status is EnqueueStatus.INSERTED]
    if not inserted:
        return
    rows = yield Statement("enqueue_undo", (pack.uuids(inserted), earliest_expiry(inserted)))
    undone = {row[0] for row in rows}
    for i, answer in enumerate(answers):
        if answer.ref.id in undone:
            answers[i] = Enqueued(EnqueueStatus.EXISTS, answer.ref)


def _one(job: NewJob[Any], now: datetime | None) -> tuple[object, ...]:
    return (
        now,
        job.id,
        job.tenant,
        job.queue,
        job.group_key,
        job.run_at,
        job.delay_s,
        job.priority,
        job.kind,
        job.args.decode(),
        job.max_attempts,
        job.max_crashes,
        job.timeout_s,
        _tags(job),
        _meta(job),
        None,
    )


def _columns(jobs: list[NewJob[Any]], now: datetime | None) -> tuple[object, ...]:
    return (
        now,
        pack.uuids([j.id for j in jobs]),
        pack.texts([j.tenant for j in jobs]),
        pack.texts([j.queue for j in jobs]),
        pack.texts([j.group_key for j in jobs]),
        pack.instants([j.run_at for j in jobs]),
        pack.float8s([j.delay_s for j in jobs]),
        pack.int2s([j.priority for j in jobs]),
        pack.texts([j.kind for j in jobs]),
        pack.raw_texts([j.args for j in jobs]),
        pack.int4s([j.max_attempts for j in jobs]),
        pack.int4s([j.max_crashes for j in jobs]),
        pack.float8s([j.timeout_s for j in jobs]),
        pack.texts([_tags(j) for j in jobs]),
        pack.texts([_meta(j) for j in jobs]),
    )


def _limited_columns(jobs: list[NewJob[Any]], now: datetime | None) -> tuple[object, ...]:
    return (
        *_columns(jobs, now),
        pack.texts([_retry(j) for j in jobs]),
        pack.float8s([j.schedule_to_start_s for j in jobs]),
        pack.float8s([j.deadline_s for j in jobs]),
    )


def _keyed_columns(jobs: list[NewJob[Any]], now: datetime | None) -> tuple[object, ...]:
    uniques = [j.unique for j in jobs if j.unique is not None]
    return (
        *_limited_columns(jobs, now),
        pack.byteas([u.digest for u in uniques]),
        pack.texts([_shown_key(u) for u in uniques]),
        pack.int2s([_flags(j, u) for j, u in zip(jobs, uniques, strict=True)]),
        pack.float8s([u.window_s for u in uniques]),
    )


def _keys(jobs: list[NewJob[Any]]) -> tuple[object, ...]:
    return (
        pack.texts([j.tenant for j in jobs]),
        pack.texts([j.queue for j in jobs]),
        pack.byteas([j.unique.digest for j in jobs if j.unique is not None]),
    )


def _replacement(job: NewJob[Any], holder: str, now: datetime | None) -> tuple[object, ...]:
    assert job.unique is not None
    return (
        now,
        holder,
        job.unique.digest,
        job.run_at,
        job.delay_s,
        job.priority,
        job.kind,
        job.args.decode(),
        job.max_attempts,
        job.max_crashes,
        job.timeout_s,
        _tags(job),
        _meta(job),
        job.group_key,
        _retry(job),
        job.schedule_to_start_s,
        job.deadline_s,
        job.unique.keep_run_at,
    )


def _flags(job: NewJob[Any], unique: Unique) -> int:
    """Return the bits of ``job.flags`` (see its comment in schema.sql) of a job with a key."""
    flags = _HOLDS_KEY | sum(1 << _BIT[state.value] for state in unique.final_states)
    if _has_limits(job):
        flags |= _LIMITED
    return flags | _UNTIL_STARTED if unique.until_started else flags


def _shown_key(unique: Unique) -> str:
    return unique.key if unique.key is not None else unique.digest.hex()


def _retry(job: NewJob[Any]) -> str | None:
    return None if job.retry is None else _encode(job.retry).decode()


def _tags(job: NewJob[Any]) -> str | None:
    return pack.array_literal(job.tags) if job.tags else None


def _meta(job: NewJob[Any]) -> str | None:
    return _encode(job.meta).decode() if job.meta else None
