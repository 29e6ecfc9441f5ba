"""The external checker: holds what the store says against what was seen outside of it.

It uses nothing of goqueue. `check` takes the ledger (`tests.chaos.ledger`) and a picture of the store
(`tests.chaos.trail`) of an instant when all is quiet, and names every law that was broken. `test_checker.py` breaks
each law once, in forged logs.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from tests.chaos.ledger import Entry
from tests.chaos.replay import (
    CRASHES,
    FINAL,
    HAND_BACKS,
    RUNNING,
    SWEEPS,
    TAKEN_AWAY,
    Kind,
    Leased,
    Move,
    by_job,
    leases,
    moves,
    number,
)
from tests.chaos.trail import Picture, Row, Step

KEPT_WHEN = {3: 8, 4: 16, 5: 32}
"""The flag of a job that says: its key is also held in this final state."""


class Law(StrEnum):
    """What must hold."""

    DURABLE = "everything acknowledged is final, or accounted for"
    ONE_STATE = "a job is in one place, in one state"
    REFUSED = "what was refused is not there"
    STEPS = "only the steps of the state machine, with its fences and counts"
    FENCE = "fence = claims + sweeps"
    ATTEMPT = "attempt = claims - releases - snoozes"
    CRASHES = "crashes = crashed and swept attempts"
    LEASED = "a handler starts under a lease, and once under each"
    ONE_LEASE = "two handlers of one job overlap only if the first had lost its lease"
    OLD_FENCE = "nothing is accepted under an old fence"
    RETURNED = "only what has returned is completed"
    ALIVE = "no lease of a living worker is swept"
    KEY = "a key is held by a job in a holding state"
    TOKEN = "the idempotency token is the same at every attempt"


@dataclass(frozen=True)
class Violation:
    """One law, broken by one job."""

    law: Law
    id: str
    what: str

    def __str__(self) -> str:
        return f"[{self.law.name}] {self.id}: {self.what} ({self.law})"


@dataclass(frozen=True)
class Allowed:
    """What a test knows and the laws do not. Ids of jobs."""

    open: Collection[str] = ()
    """Acknowledged, and not final on purpose."""
    vanished: Collection[str] = ()
    """Deleted, or not kept after their end (retention 0)."""
    hung: Collection[str] = ()
    """Its handler ignores its stop, and may run on while the next attempt does."""
    edited: Collection[str] = ()
    """The test has changed its row by hand: its counts say nothing."""


@dataclass
class _Case:
    """One job: all that is known of it."""

    id: str
    entries: list[Entry] = field(default_factory=list)
    story: list[Move] = field(default_factory=list)
    leases: list[Leased] = field(default_factory=list)
    live: list[Row] = field(default_factory=list)
    final: list[Row] = field(default_factory=list)

    def seen(self, event: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.event == event]

    def lease(self, fence: int) -> Leased | None:
        return next((lease for lease in self.leases if lease.fence == fence), None)

    @property
    def rows(self) -> list[Row]:
        return [*self.live, *self.final]


def check(entries: Sequence[Entry], picture: Picture, allowed: Allowed | None = None) -> list[Violation]:
    """Name every law that was broken."""
    cases = _cases(entries, picture)
    allowed = allowed or Allowed()
    workers = _workers(picture.steps)
    found: list[Violation] = []
    for case in cases.values():
        for law, what in (
            *_presence(case, allowed),
            *(() if case.id in allowed.edited else _steps(case)),
            *_runs(case, allowed),
            *_fences(case, cases),
            *_swept(case, workers),
        ):
            found.append(Violation(law, case.id, what))
    found += (Violation(Law.KEY, id, what) for id, what in _keys(picture))
    return found


def _cases(entries: Sequence[Entry], picture: Picture) -> dict[str, _Case]:
    cases: dict[str, _Case] = {}

    def case(id: str) -> _Case:
        return cases.setdefault(id, _Case(id))

    for entry in entries:
        if entry.id:
            case(entry.id).entries.append(entry)
    for id, steps in by_job(picture.steps).items():
        case(id).story = moves(steps)
        case(id).leases = leases(id, case(id).story)
    for row in picture.live:
        case(str(row["id"])).live.append(row)
    for row in picture.final:
        case(str(row["id"])).final.append(row)
    return cases


# -- is it there, once, and ended -------------------------------------------------------------------------------


def _presence(case: _Case, allowed: Allowed) -> Iterator[tuple[Law, str]]:
    acknowledged = bool(case.seen("acknowledged"))
    if len(case.rows) > 1:
        yield Law.ONE_STATE, f"{len(case.live)} rows are live and {len(case.final)} final"
    if acknowledged and not case.rows and case.id not in allowed.vanished:
        yield Law.DURABLE, "it was acknowledged, and is nowhere"
    if acknowledged and case.live and case.id not in allowed.open:
        yield Law.DURABLE, f"all is quiet, and it is in state {case.live[0]['state']}"
    if case.seen("refused") and not acknowledged and case.rows:
        yield Law.REFUSED, "its enqueue was refused, and it is there"
    for row in case.final:
        if number(row, "state") not in FINAL:
            yield Law.ONE_STATE, f"it is in the history in state {row['state']}"


# -- the state machine and its counts ---------------------------------------------------------------------------


def _steps(case: _Case) -> Iterator[tuple[Law, str]]:
    last: Row | None = None
    for move in case.story:
        if move.kind is Kind.ILLEGAL:
            yield Law.STEPS, str(move)
        elif move.kind is Kind.ENQUEUE and last is not None:
            yield Law.STEPS, f"it was made again: {move}"
        elif move.before is not None and last is not None and not _same(move.before, last):
            yield Law.STEPS, f"the trail has a hole before {move}"
        last = move.after
    if not case.rows:
        return
    row = case.rows[0]
    count = Counter(move.kind for move in case.story)
    claims, sweeps = count[Kind.CLAIM], sum(count[kind] for kind in SWEEPS) + count[Kind.EXPIRE]
    handed_back, crashes = sum(count[kind] for kind in HAND_BACKS), sum(count[kind] for kind in CRASHES)
    for law, name, wanted, sum_ in (
        (Law.FENCE, "fence", claims + sweeps, f"{claims} claims and {sweeps} sweeps"),
        (Law.ATTEMPT, "attempt", claims - handed_back, f"{claims} claims, {handed_back} of them handed back"),
        (Law.CRASHES, "crashes", crashes, f"{crashes} crashes"),
    ):
        if number(row, name) != wanted:
            yield law, f"{name} is {row[name]} after {sum_}"


def _same(before: Row, last: Row) -> bool:
    return all(before[name] == last[name] for name in ("state", "fence", "attempt", "crashes", "worker_id"))


# -- what handlers saw ------------------------------------------------------------------------------------------


def _runs(case: _Case, allowed: Allowed) -> Iterator[tuple[Law, str]]:
    starts = sorted(case.seen("start"), key=lambda entry: entry.at_s)
    ended: dict[int, float] = {}
    for entry in case.seen("end"):
        ended.setdefault(entry.fence, entry.at_s)
    for fence, times in Counter(entry.fence for entry in starts).items():
        lease = case.lease(fence)
        if lease is None:
            yield Law.LEASED, f"a handler started under fence {fence}, which no claim has given"
        elif times > 1:
            yield Law.LEASED, f"{times} handlers started under fence {fence}"
        elif any(entry.fence == fence and entry.fields.get("attempt") != lease.attempt for entry in starts):
            yield Law.LEASED, f"the handler under fence {fence} was told another attempt than {lease.attempt}"
    for first, second in pairwise(starts):
        if second.at_s >= ended.get(first.fence, float("inf")) or case.id in allowed.hung:
            continue
        lease = case.lease(first.fence)
        if lease is None or lease.end is None or lease.end.kind not in TAKEN_AWAY:
            yield Law.ONE_LEASE, f"under fence {second.fence} it ran while it still ran under {first.fence}"
    tokens = {entry.fields["token"] for entry in starts if "token" in entry.fields}
    if len(tokens) > 1:
        yield Law.TOKEN, f"tokens: {sorted(map(str, tokens))}"


# -- fences -----------------------------------------------------------------------------------------------------


def _fences(case: _Case, cases: dict[str, _Case]) -> Iterator[tuple[Law, str]]:
    """Handlers write their fence into all that they leave: result, progress, errors, children."""
    returned = {entry.fence for entry in case.seen("end") if entry.fields.get("outcome") == "returned"}
    watched = bool(case.seen("start"))
    progress: object = None
    for move in case.story:
        row = move.after
        if row is None:
            continue
        if row.get("progress") != progress:
            progress = row.get("progress")
            fence = _fence_in(progress)
            if fence is not None and (move.kind is not Kind.CHANGE or fence != row["fence"]):
                yield Law.OLD_FENCE, f"progress of fence {fence} came with {move}"
        if move.kind is Kind.COMPLETE:
            fence = _fence_in(row.get("result"))
            if fence is not None and fence != row["fence"]:
                yield Law.OLD_FENCE, f"the result of fence {fence} was taken by {move}"
            if watched and row["fence"] not in returned:
                yield Law.RETURNED, f"no handler returned under fence {row['fence']}, and yet {move}"
        if move.kind is Kind.ENQUEUE:
            yield from _child(move, cases)
    for row in case.rows:
        yield from _errors(row, case)


def _child(move: Move, cases: dict[str, _Case]) -> Iterator[tuple[Law, str]]:
    assert move.after is not None
    args = move.after.get("args")
    by = args.get("by") if isinstance(args, dict) else None
    if not isinstance(by, str) or by not in cases or not isinstance(args, dict):
        return
    before = [one for one in cases[by].story if one.step.seq < move.step.seq]
    parent = before[-1].after if before else None
    if parent is None or parent["state"] != RUNNING or parent["fence"] != args.get("fence"):
        yield Law.OLD_FENCE, f"it was made by {by} under fence {args.get('fence')}, when that lease was over"


def _errors(row: Row, case: _Case) -> Iterator[tuple[Law, str]]:
    """An error says under which fence it was raised; the store says at which attempt it took it."""
    errors = row.get("errors")
    for error in errors if isinstance(errors, list) else ():
        fence = _fence_in(error.get("message"))
        if fence is None:
            continue
        lease = case.lease(fence)
        if lease is None or lease.attempt != error.get("attempt") or (lease.end and lease.end.kind in SWEEPS):
            yield Law.OLD_FENCE, f"an error of fence {fence} was taken as of attempt {error.get('attempt')}"


def _fence_in(value: object) -> int | None:
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    fence = value.get("fence") if isinstance(value, dict) else None
    return fence if isinstance(fence, int) else None


# -- workers and keys -------------------------------------------------------------------------------------------


def _workers(steps: Sequence[Step]) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if step.place == "worker":
            found[step.id].append(step)
    return found


def _swept(case: _Case, workers: dict[str, list[Step]]) -> Iterator[tuple[Law, str]]:
    for move in case.story:
        if move.kind not in SWEEPS or move.before is None:
            continue
        before = [step for step in workers[str(move.before["worker_id"])] if step.seq < move.step.seq]
        row = before[-1].after if before else None
        if row is not None and datetime.fromisoformat(str(row["expires_at"])) > move.step.at:
            yield Law.ALIVE, f"its worker was alive until {row['expires_at']}, and yet {move} at {move.step.at}"


def _keys(picture: Picture) -> Iterator[tuple[str, str]]:
    live = {str(row["id"]) for row in picture.live}
    final = {str(row["id"]): row for row in picture.final}
    for key in picture.keys:
        id = str(key["job_id"])
        if id in live or key["until"] is not None:
            continue
        row = final.get(id)
        if row is None or not number(row, "flags") & KEPT_WHEN[number(row, "state")]:
            yield id, f"key {key['key']} of a job that is {'gone' if row is None else 'final'} is held"
