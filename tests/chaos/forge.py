"""Forged logs: what a store and its handlers would have left, so that a law can be broken on purpose."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.chaos.checker import Allowed, Violation, check
from tests.chaos.ledger import Entry
from tests.chaos.replay import CANCELLED, COMPLETED, DEAD, RUNNING, WAITING
from tests.chaos.trail import Picture, Row, Step

START = datetime(2030, 1, 1, tzinfo=UTC)
KEY_FLAG = 1


class Forge:
    """A store that does what it is told, lawful or not. Each call is one transaction, one second after the last."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.steps: list[Step] = []
        self.live: dict[str, Row] = {}
        self.final: list[Row] = []
        self.keys: list[Row] = []
        self._now_s = 0

    def violations(self, allowed: Allowed | None = None) -> list[Violation]:
        picture = Picture(steps=self.steps, live=list(self.live.values()), final=self.final, keys=self.keys)
        return check(self.entries, picture, allowed)

    def laws(self, allowed: Allowed | None = None) -> set[str]:
        return {violation.law.name for violation in self.violations(allowed)}

    # -- what was seen outside ----------------------------------------------------------------------------------

    def log(self, event: str, id: str = "a", **fields: Any) -> None:
        self._now_s += 1
        self.entries.append(Entry(float(self._now_s), 1, event, {"id": id, **fields}))

    def start(self, fence: int, attempt: int = 1, id: str = "a", token: str = "t") -> None:  # noqa: S107 - no password
        self.log("start", id, fence=fence, attempt=attempt, token=token)

    def end(self, fence: int, outcome: str = "returned", id: str = "a") -> None:
        self.log("end", id, fence=fence, outcome=outcome)

    # -- what the store did -------------------------------------------------------------------------------------

    def enqueue(self, id: str = "a", **fields: Any) -> None:
        self.log("sent", id)
        row = {"id": id, "state": WAITING, "fence": 0, "attempt": 0, "crashes": 0, "flags": 0, "worker_id": None}
        row |= {"args": {}, "progress": None, "errors": None, **fields}
        self._step("job", id, None, row)
        self.live[id] = row
        self.log("acknowledged", id)

    def claim(self, id: str = "a", worker: str | None = "w", **fields: Any) -> None:
        row = self.live[id]
        counts = {"fence": _plus(row, "fence"), "attempt": _plus(row, "attempt")}
        self.change(id, **{"state": RUNNING, "worker_id": worker, **counts} | fields)

    def again(self, id: str = "a", **fields: Any) -> None:
        """A retry; with other counts a release, a crash or a sweep."""
        self.change(id, **{"state": WAITING, "worker_id": None} | fields)

    def release(self, id: str = "a") -> None:
        self.again(id, attempt=_plus(self.live[id], "attempt", -1))

    def sweep(self, id: str = "a") -> None:
        self.again(id, fence=_plus(self.live[id], "fence"), crashes=_plus(self.live[id], "crashes"))

    def complete(self, id: str = "a", result_fence: int | None = None, **fields: Any) -> None:
        fence = self.live[id]["fence"] if result_fence is None else result_fence
        self.end_job(id, **{"state": COMPLETED, "result": {"fence": fence}} | fields)

    def cancel(self, id: str = "a") -> None:
        self.end_job(id, state=CANCELLED)

    def dead(self, id: str = "a", **fields: Any) -> None:
        self.end_job(id, **{"state": DEAD} | fields)

    def change(self, id: str = "a", **fields: Any) -> None:
        before, after = self.live[id], {**self.live[id], **fields}
        self.live[id] = after
        self._step("job", id, before, after)

    def end_job(self, id: str, **fields: Any) -> None:
        before = self.live.pop(id)
        after = {**before, **fields}
        self._step("job", id, before, None)
        self._step("history", id, None, after, again=True)
        self.final.append(after)

    def retry_by_hand(self, id: str = "a", **fields: Any) -> None:
        before = next(row for row in self.final if row["id"] == id)
        self.final.remove(before)
        after = {**before, "state": WAITING, "worker_id": None, **fields}
        self._step("history", id, before, None)
        self._step("job", id, None, after, again=True)
        self.live[id] = after

    def beat(self, worker: str = "w", ttl_s: float = 30.0) -> None:
        expires_at = START + timedelta(seconds=self._now_s + 1 + ttl_s)
        self._step("worker", worker, None, {"id": worker, "expires_at": expires_at.isoformat()})

    def _step(self, place: str, id: str, before: Row | None, after: Row | None, *, again: bool = False) -> None:
        self._now_s += 0 if again else 1
        at = START + timedelta(seconds=self._now_s)
        self.steps.append(Step(len(self.steps) + 1, at, str(self._now_s), place, id, before, after))


def _plus(row: Row, name: str, more: int = 1) -> int:
    value = row[name]
    assert isinstance(value, int)
    return value + more
