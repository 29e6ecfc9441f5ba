"""What workers do: claim, settle, extend."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, assert_never

import msgspec
from msgspec.structs import asdict, replace
from psycopg.errors import UniqueViolation

from goqueue.model import limits
from goqueue.model.job import ErrorInfo, JobRef
from goqueue.model.lease import Beaten, Claimed, Held, Lease
from goqueue.model.outcome import Answer, Cancel, Complete, Crash, Dead, Note, Release, Retry, Settlement, Snooze
from goqueue.model.retry import RetryDelays
from goqueue.model.state import StoredState
from goqueue.store.postgres import pack, retention
from goqueue.store.postgres.lanes import NIL, Lane, Mark
from goqueue.store.postgres.rows import earliest_expiry, utc
from goqueue.store.postgres.statement import Plan, Statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from goqueue.model.lease import Beat, Want
    from goqueue.model.outcome import Outcome
    from goqueue.settings import StoreSettings

_encode = msgspec.json.Encoder().encode

_WAITING: Final = int(StoredState.WAITING)
_COMPLETED: Final = int(StoredState.COMPLETED)
_CANCELLED: Final = int(StoredState.CANCELLED)
_DEAD: Final = int(StoredState.DEAD)
_CRASHED: Final = 6
"""No state: the statement decides whether the job waits again, is dead, or is cancelled."""


class Rare(msgspec.Struct, frozen=True):
    """What only some leases have. It travels as one JSON column, which is null for the first attempt of a plain job."""

    tried_for_s: float = 0.0
    start_in_s: float | None = None
    deadline_in_s: float | None = None
    retry: RetryDelays | None = None
    max_crashes: int | None = None


_rare: Final = msgspec.json.Decoder(Rare)


class Picked(msgspec.Struct, frozen=True):
    """What a claim gave, and for the lane book the last place that each lane gave."""

    claimed: Claimed
    last: dict[Lane, Mark]


def claim(
    want: Want,
    lanes: Sequence[tuple[Lane, Mark]],
    outcomes: Sequence[Settlement],
    settings: StoreSettings,
    now: datetime | None = None,
) -> Plan[Picked]:
    """Settle and claim in one statement. A look follows only for outcomes that were not written.

    Before it comes what attempts have said last, if any has: progress and logs go with the job when that ends.
    """
    if any(o.note is not None for o in outcomes):
        return (yield from _claim_noted(want, lanes, outcomes, settings, now))
    wanted = (
        now,
        want.worker_id or NIL,
        want.tenant,
        *_lane_columns(tuple(lanes)),
        want.total if lanes else 0,
    )
    if not outcomes:
        rows = yield Statement("claim_only", wanted, one_plan=True)
        leases, last = _leases(rows, lanes, want.tenant)
        return Picked(Claimed((), leases), last)
    columns = (*_outcome_columns(outcomes), *retention.parameters(settings), settings.crash_delay_s)
    try:
        rows = yield Statement("claim", (*wanted, *columns), one_plan=True)
        missed = rows[0][0]
    except UniqueViolation:  # an id that was used twice: rare, and so is what can take it
        ((missed,),) = yield Statement("settle", (now, *columns), one_plan=True)
        rows = yield Statement("claim_only", wanted, one_plan=True)
    settled = (Answer.APPLIED,) * len(outcomes) if not missed else (yield from _check(outcomes, missed))
    leases, last = _leases(rows, lanes, want.tenant) if rows and rows[0][1] is not None else ((), {})
    return Picked(Claimed(settled, leases), last)


def _claim_noted(
    want: Want,
    lanes: Sequence[tuple[Lane, Mark]],
    outcomes: Sequence[Settlement],
    settings: StoreSettings,
    now: datetime | None,
) -> Plan[Picked]:
    noted = [(i, o) for i, o in enumerate(outcomes) if o.note is not None]
    unkept: set[int] = set()
    for part in _parts(noted):
        notes = [o.note or Note() for _, o in part]
        rows = yield Statement(
            "note",
            (
                now,
                pack.uuids([o.ref.id for _, o in part]),
                pack.int8s([o.fence for _, o in part]),
                pack.raw_texts([note.progress for note in notes]),
                pack.raw_texts([_encode(note.logs) if note.logs else None for note in notes]),
            ),
        )
        unkept |= {i for i, _ in part} - {part[nth - 1][0] for (nth,) in rows}
    # An outcome whose note was not kept is not written: it has run its course already, or is asked for again.
    ready = [replace(o, note=None) for i, o in enumerate(outcomes) if i not in unkept]
    picked = yield from claim(want, lanes, ready, settings, now)
    if not unkept:
        return picked
    settled = iter(picked.claimed.settled)
    left = iter((yield from _check([outcomes[i] for i in sorted(unkept)], range(1, len(unkept) + 1))))
    answers = tuple(next(left) if i in unkept else next(settled) for i in range(len(outcomes)))
    return Picked(Claimed(answers, picked.claimed.leases), picked.last)


def _parts(noted: Sequence[tuple[int, Settlement]]) -> Iterator[list[tuple[int, Settlement]]]:
    """Split so that no statement has more lines than a beat has."""
    part: list[tuple[int, Settlement]] = []
    lines = 0
    for one in noted:
        more = len(one[1].note.logs) if one[1].note is not None else 0
        if part and lines + more > limits.LOGS_SENT_MAX:
            yield part
            part, lines = [], 0
        part.append(one)
        lines += more
    yield part


@lru_cache(maxsize=4)  # most claims ask for the same lanes as the one before
def _lane_columns(lanes: tuple[tuple[Lane, Mark], ...]) -> tuple[pack.Packed, ...]:
    return (
        pack.texts([lane.queue for lane, _ in lanes]),
        pack.int2s([lane.priority for lane, _ in lanes]),
        pack.texts([lane.group_key for lane, _ in lanes]),
        pack.instants([mark.run_at for _, mark in lanes]),
        pack.uuids([mark.id for _, mark in lanes]),
    )


def _leases(
    rows: Sequence[tuple[Any, ...]], lanes: Sequence[tuple[Lane, Mark]], tenant: str
) -> tuple[tuple[Lease, ...], dict[Lane, Mark]]:
    # RETURNING has no order of its own: sort by lane, run_at, id. (Rows mostly are in it already.)
    ordered = sorted(rows, key=_in_order)
    ends = {row[2]: row for row in ordered}
    last = {lanes[nth - 1][0]: Mark(utc(row[9]), row[1]) for nth, row in ends.items()}
    leases = []
    for (
        _, id, nth, fence, attempt, max_attempts, crashes, timeout_s, created_at, run_at, kind, args, tags, meta, at,
        rare,
    ) in ordered:  # fmt: skip
        lane = lanes[nth - 1][0]
        due = utc(run_at)
        lease = Lease(
            id=id,
            tenant=tenant,
            queue=lane.queue,
            kind=kind,
            args=args,
            fence=fence,
            attempt=attempt,
            max_attempts=max_attempts,
            crashes=crashes,
            priority=lane.priority,
            timeout_s=timeout_s,
            created_at=utc(created_at),
            run_at=due,
            meta=meta,
            tags=tuple(tags) if tags else (),
            waited_s=(utc(at) - due).total_seconds(),
        )
        leases.append(lease if rare is None else replace(lease, **asdict(_rare.decode(rare))))
    return tuple(leases), last


def _in_order(row: tuple[Any, ...]) -> tuple[int, datetime, str]:
    return (row[2], utc(row[9]), row[1])


def _check(outcomes: Sequence[Settlement], missed: Sequence[int]) -> Plan[tuple[Answer, ...]]:
    """Tell what became of outcomes that were not written."""
    answers = [Answer.APPLIED] * len(outcomes)
    asked = [outcomes[n - 1] for n in missed]
    ids = [o.ref.id for o in asked]
    rows = yield Statement(
        "settle_check", (pack.uuids(ids), pack.int8s([o.fence for o in asked]), earliest_expiry(ids))
    )
    for nth, already, running in rows:
        answers[missed[nth - 1] - 1] = Answer.ALREADY if already else Answer.BUSY if running else Answer.LOST
    return tuple(answers)


def _outcome_columns(outcomes: Sequence[Settlement]) -> tuple[object, ...]:
    states, attempts, delays, results, errors, reasons = zip(*[_written(o.outcome) for o in outcomes], strict=True)
    return (
        pack.uuids([o.ref.id for o in outcomes]),
        pack.int8s([o.fence for o in outcomes]),
        pack.int2s(states),
        pack.int4s(attempts),
        pack.float8s(delays),
        pack.raw_texts(results),
        pack.raw_texts(errors),
        pack.texts(reasons),
    )


def _written(outcome: Outcome) -> tuple[int, int, float, bytes | None, bytes | None, str | None]:
    """Return what is written of an outcome: state, change of attempt, delay, result, error, reason."""
    match outcome:
        case Complete():
            return (_COMPLETED, 0, 0.0, outcome.result, None, None)
        case Retry():
            return (_WAITING, 0, bounded_s(outcome.delay_s), None, _error(outcome.error), None)
        case Snooze():
            return (_WAITING, -1, bounded_s(outcome.delay_s), None, None, outcome.reason or None)
        case Release():
            return (_WAITING, -1, 0.0, None, None, None)
        case Cancel():
            return (_CANCELLED, 0, 0.0, None, None, outcome.reason or "cancelled")
        case Dead():
            return (_DEAD, 0, 0.0, None, _error(outcome.error), outcome.reason)
        case Crash():
            return (_CRASHED, 0, 0.0, None, _error(outcome.error), None)
        case _:
            assert_never(outcome)


def bounded_s(delay_s: float) -> float:
    """Return a delay that the store's clock can add; NaN is none."""
    return min(delay_s, limits.DELAY_S_MAX) if delay_s > 0 else 0.0


def _error(error: ErrorInfo) -> bytes:
    """Encode an error so that JSON in PostgreSQL can hold it: NUL and lone surrogates become replacement characters."""
    try:
        encoded = _encode(error)
    except UnicodeEncodeError:
        encoded = b"\\u0000"
    if b"\\u0000" not in encoded:
        return encoded
    return _encode(ErrorInfo(_clean(error.type), _clean(error.message), _clean(error.traceback)))


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def extend(beat: Beat, now: datetime | None = None) -> Plan[Beaten]:
    """Keep a worker alive, and ask about its leases."""
    worker = beat.worker
    yield Statement(
        "extend",
        (
            now,
            worker.id,
            beat.tenant,
            beat.ttl_s,
            worker.pid,
            worker.concurrency,
            beat.running,
            beat.idle,
            beat.draining,
            worker.name,
            worker.host,
            worker.version,
            list(worker.queues),
            list(worker.kinds),
        ),
    )
    rows = yield Statement(
        "extend_held",
        (
            worker.id,
            pack.uuids([h.ref.id for h in beat.held]),
            pack.int8s([h.fence for h in beat.held]),
            pack.raw_texts([h.progress for h in beat.held]),
            limits.CLAIM_MAX,
            pack.raw_texts([_encode(h.logs) if h.logs else None for h in beat.held]),
            now,
        ),
    )
    held = {h.ref.id: h for h in beat.held}
    return Beaten(
        lost=tuple(held[id].ref for what, _, _, id, _ in rows if what == "lost"),
        cancel=tuple(held[id].ref for what, _, _, id, _ in rows if what == "cancel"),
        unkept=tuple(held[id].ref for what, _, _, id, _ in rows if what == "unkept"),
        strays=tuple(
            Held(JobRef(tenant, queue, id), fence) for what, tenant, queue, id, fence in rows if what == "stray"
        ),
    )
