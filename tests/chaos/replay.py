"""From the trail of one job to what happened to it: moves between states, and the leases between them.

The table of lawful moves is written here a second time on purpose: it must not be taken from the code that it checks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from tests.chaos.trail import Row, Step

WAITING, RUNNING, BLOCKED, COMPLETED, CANCELLED, DEAD = range(6)
FINAL = (COMPLETED, CANCELLED, DEAD)


class Kind(StrEnum):
    """What a move was."""

    ENQUEUE = "enqueue"
    CLAIM = "claim"
    COMPLETE = "complete"
    RETRY = "retry"
    HAND_BACK = "hand_back"
    """Released or snoozed."""
    HAND_BACK_CANCELLED = "hand_back_cancelled"
    CANCEL = "cancel"
    DEAD = "dead"
    SWEEP = "sweep"
    SWEEP_LAST = "sweep_last"
    SWEEP_CANCELLED = "sweep_cancelled"
    CRASH = "crash"
    CRASH_LAST = "crash_last"
    CRASH_CANCELLED = "crash_cancelled"
    EXPIRE = "expire"
    CANCEL_REQUEST = "cancel_request"
    RETRY_REQUEST = "retry_request"
    CHANGE = "change"
    """No other state: progress, another run_at, a request to cancel."""
    DELETE = "delete"
    SETTLED_AWAY = "settled_away"
    """Ended and not kept (retention 0): in which state cannot be told."""
    ILLEGAL = "illegal"


SWEEPS = frozenset({Kind.SWEEP, Kind.SWEEP_LAST, Kind.SWEEP_CANCELLED})
CRASHES = SWEEPS | {Kind.CRASH, Kind.CRASH_LAST, Kind.CRASH_CANCELLED}
HAND_BACKS = frozenset({Kind.HAND_BACK, Kind.HAND_BACK_CANCELLED})
TAKEN_AWAY = CRASHES | HAND_BACKS
"""Ways out of running by which a lease ends although its handler may not know it yet."""
ENDS_OF_LEASES = TAKEN_AWAY | {Kind.COMPLETE, Kind.RETRY, Kind.CANCEL, Kind.DEAD, Kind.SETTLED_AWAY}

# (state before, state after, fence +, attempt +, crashes +)
MOVES: dict[tuple[int, int, int, int, int], Kind] = {
    (WAITING, RUNNING, 1, 1, 0): Kind.CLAIM,
    (RUNNING, COMPLETED, 0, 0, 0): Kind.COMPLETE,
    (RUNNING, WAITING, 0, 0, 0): Kind.RETRY,
    (RUNNING, WAITING, 0, -1, 0): Kind.HAND_BACK,
    (RUNNING, CANCELLED, 0, -1, 0): Kind.HAND_BACK_CANCELLED,
    (RUNNING, CANCELLED, 0, 0, 0): Kind.CANCEL,
    (RUNNING, DEAD, 0, 0, 0): Kind.DEAD,
    (RUNNING, WAITING, 1, 0, 1): Kind.SWEEP,
    (RUNNING, DEAD, 1, 0, 1): Kind.SWEEP_LAST,
    (RUNNING, CANCELLED, 1, 0, 1): Kind.SWEEP_CANCELLED,
    (RUNNING, WAITING, 0, 0, 1): Kind.CRASH,
    (RUNNING, DEAD, 0, 0, 1): Kind.CRASH_LAST,
    (RUNNING, CANCELLED, 0, 0, 1): Kind.CRASH_CANCELLED,
    (WAITING, DEAD, 1, 0, 0): Kind.EXPIRE,
    (BLOCKED, DEAD, 1, 0, 0): Kind.EXPIRE,
    (WAITING, CANCELLED, 0, 0, 0): Kind.CANCEL_REQUEST,
    (BLOCKED, CANCELLED, 0, 0, 0): Kind.CANCEL_REQUEST,
    (COMPLETED, WAITING, 0, 0, 0): Kind.RETRY_REQUEST,
    (CANCELLED, WAITING, 0, 0, 0): Kind.RETRY_REQUEST,
    (DEAD, WAITING, 0, 0, 0): Kind.RETRY_REQUEST,
    (BLOCKED, WAITING, 0, 0, 0): Kind.CHANGE,
    **{(state, state, 0, 0, 0): Kind.CHANGE for state in range(6)},
}


@dataclass(frozen=True)
class Move:
    """One move of one job. ``after`` is None when its row was deleted."""

    kind: Kind
    step: Step
    before: Row | None
    after: Row | None

    def __str__(self) -> str:
        return f"{self.kind} at seq {self.step.seq} ({_numbers(self.before)} -> {_numbers(self.after)})"


@dataclass(frozen=True)
class Leased:
    """One lease: from a claim to the move that ended it, if any has."""

    id: str
    fence: int
    attempt: int
    worker_id: str
    claim: Move
    end: Move | None


def number(row: Row, name: str) -> int:
    value = row[name]
    assert isinstance(value, int), (name, value)
    return value


def moves(steps: Sequence[Step]) -> list[Move]:
    """Tell what happened to one job. ``steps`` are those of its rows in `job` and in the history, in order."""
    found: list[Move] = []
    for _, group in groupby(steps, key=lambda step: step.txid):
        found += (_move(step, before, after) for step, before, after in _joined(list(group)))
    return found


def _joined(steps: list[Step]) -> list[tuple[Step, Row | None, Row | None]]:
    """Within one transaction: gone from one table and new in the other is one move."""
    gone = {step.place: step for step in steps if step.after is None}
    new = {step.place: step for step in steps if step.before is None}
    for here, there in (("job", "history"), ("history", "job")):
        if here in gone and there in new:
            rest = [step for step in steps if step not in (gone[here], new[there])]
            pair = (max(gone[here], new[there], key=lambda step: step.seq), gone[here].before, new[there].after)
            return [*((step, step.before, step.after) for step in rest), pair]
    if "job" in gone and "job" in new:
        return []  # stored, and taken back in the same transaction: nobody has seen it
    return [(step, step.before, step.after) for step in steps]


def _move(step: Step, before: Row | None, after: Row | None) -> Move:
    return Move(_kind(before, after), step, before, after)


def _kind(before: Row | None, after: Row | None) -> Kind:
    if before is None:
        assert after is not None
        fresh = number(after, "fence") == number(after, "attempt") == number(after, "crashes") == 0
        return Kind.ENQUEUE if fresh and number(after, "state") in (WAITING, BLOCKED) else Kind.ILLEGAL
    if after is None:
        return Kind.SETTLED_AWAY if number(before, "state") == RUNNING else Kind.DELETE
    grown = [number(after, name) - number(before, name) for name in ("fence", "attempt", "crashes")]
    kind = MOVES.get((number(before, "state"), number(after, "state"), grown[0], grown[1], grown[2]), Kind.ILLEGAL)
    if kind is Kind.CHANGE and after["worker_id"] != before["worker_id"]:
        return Kind.ILLEGAL  # a lease changed hands without a claim
    if kind is Kind.CLAIM and after["worker_id"] is None:
        return Kind.ILLEGAL
    return kind


def leases(id: str, story: Iterable[Move]) -> list[Leased]:
    """Tell the leases of one job, in order."""
    found: list[Leased] = []
    claim: Move | None = None
    for move in story:
        if claim is not None and move.kind in ENDS_OF_LEASES:
            found.append(_leased(id, claim, move))
            claim = None
        elif move.kind is Kind.CLAIM:
            claim = move
    if claim is not None:
        found.append(_leased(id, claim, None))
    return found


def _leased(id: str, claim: Move, end: Move | None) -> Leased:
    row = claim.after
    assert row is not None
    return Leased(id, number(row, "fence"), number(row, "attempt"), str(row["worker_id"]), claim, end)


def by_job(steps: Iterable[Step]) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if step.place != "worker":
            found[step.id].append(step)
    return found


def _numbers(row: Row | None) -> str:
    if row is None:
        return "none"
    return f"state {row['state']} fence {row['fence']} attempt {row['attempt']} crashes {row['crashes']}"
