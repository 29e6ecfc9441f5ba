"""Outcomes on their way to the store: gathered while the previous batch is in flight, kept until they are decided."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from goqueue.model import limits
from goqueue.model.job import ErrorInfo
from goqueue.model.outcome import Answer, Dead, Retry, Settlement, Snooze
from goqueue.tasks.cutting import cut

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from goqueue.model.lease import Held

BUSY_S: Final = 0.05
"""An outcome whose row was locked is tried again within this time; doubles up to `BUSY_MAX_S`."""
BUSY_MAX_S: Final = 5.0

log = structlog.get_logger("goqueue.engine")


class Batch:
    """Outcomes that travel together. ``suspect`` counts the refusals of a single one, -1 for an ordinary batch."""

    __slots__ = ("outcomes", "suspect")

    def __init__(self, outcomes: list[Settlement], suspect: int = -1) -> None:
        self.outcomes = outcomes
        self.suspect = suspect


class Settler:
    """The unwritten outcomes of one process. ``wake`` is called when one is due that was not before; ``returns`` when
    a job has been put off for at most ``returns_max_s``, with the seconds until then.

    An outcome leaves only by an answer of the store: applied, already or lost. While the store is away it stays here,
    also beyond the end of its lease: the fence decides whether it still counts, so nothing is lost for nothing. The
    buffer is bounded by the brake: from ``outcomes_waiting_max`` on nothing is claimed.
    """

    def __init__(
        self,
        *,
        batch: int,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
        returns: Callable[[float], None],
        returns_max_s: float,
    ) -> None:
        self.settled = 0
        self.lost = 0
        self.dropped = 0
        self._batch = min(batch, limits.SETTLE_MAX)
        self._loop = loop
        self._wake = wake
        self._returns = returns
        self._returns_max_s = returns_max_s
        self._returning: set[tuple[str, int]] = set()
        self._ready: deque[Settlement] = deque()
        self._suspects: deque[Batch] = deque()
        self._others_first = False
        self._busy: dict[tuple[str, int], tuple[int, Settlement]] = {}
        """Outcomes whose rows were locked, with their tries so far: on their way, or waiting for the next one."""
        self._doubted: dict[tuple[str, int], Callable[[], None]] = {}
        """Outcomes of jobs that their handlers may have completed, with what to call if the store takes the outcome."""
        self._away = 0
        self._flying: set[Batch] = set()
        self.add = self._ready.append
        """Take one outcome. Called for each job: nothing but the append."""

    @property
    def ready(self) -> int:
        """Outcomes that can be sent now."""
        return len(self._ready) + len(self._suspects)

    @property
    def waiting(self) -> int:
        """Outcomes that the store has not answered for good, in flight or not."""
        return len(self._ready) + len(self._suspects) + self._away

    def note_return(self, settlement: Settlement) -> None:
        """Look, before it is added, whether this outcome puts its job off for a short while only."""
        if _delay_s(settlement, self._returns_max_s) is not None:
            self._returning.add((settlement.ref.id, settlement.fence))

    def doubt(self, settlement: Settlement, applied: Callable[[], None]) -> None:
        """Note, before it is added, an outcome that counts only if the job's own transaction was rolled back.

        ``applied`` is called when it does. If not, the store answers ``already``, or ``lost`` if it keeps no history.
        """
        self._doubted[(settlement.ref.id, settlement.fence)] = applied

    def take(self) -> Batch:
        """Return the next outcomes to send, perhaps none; then `answered`, `put_back` or `refused` must follow."""
        ready = self._ready
        others_first, self._others_first = self._others_first, False
        if self._suspects and not others_first:
            batch = self._suspects.popleft()
        elif len(ready) <= self._batch:
            batch = Batch(list(ready))
            ready.clear()
        else:
            batch = Batch([ready.popleft() for _ in range(self._batch)])
        if batch.outcomes:
            self._away += len(batch.outcomes)
            self._flying.add(batch)
        return batch

    def knows(self, held: Held) -> bool:
        """Tell whether the outcome of this lease is here, waiting or in flight."""
        key = (held.ref.id, held.fence)
        if key in self._busy:
            return True
        batches = (self._ready, *(batch.outcomes for batch in (*self._flying, *self._suspects)))
        return any((s.ref.id, s.fence) == key for outcomes in batches for s in outcomes)

    def undecided(self) -> list[Settlement]:
        """Return all that the store has not answered for good."""
        batches = (self._ready, *(batch.outcomes for batch in (*self._flying, *self._suspects)))
        found = {(one.ref.id, one.fence): one for outcomes in batches for one in outcomes}
        return list(({key: one for key, (_, one) in self._busy.items()} | found).values())

    def put_back(self, batch: Batch) -> None:
        """Keep a batch that may or may not have been written: sent again, it answers ``already`` where it was."""
        self._landed(batch)
        if batch.suspect >= 0:
            self._suspects.appendleft(batch)
        else:
            self._ready.extendleft(reversed(batch.outcomes))

    def answered(self, batch: Batch, answers: Sequence[Answer]) -> None:
        """Note what the store said to each outcome of a batch."""
        count = len(batch.outcomes)
        self._landed(batch)
        self.settled += count
        special = self._busy or self._returning or self._doubted
        if not special and answers.count(Answer.APPLIED) == count == len(answers):
            return
        for settlement, answer in zip(batch.outcomes, answers, strict=True):
            self._note(settlement, answer)

    def _landed(self, batch: Batch) -> None:
        self._away -= len(batch.outcomes)
        self._flying.discard(batch)

    def _note(self, settlement: Settlement, answer: Answer) -> None:
        key = (settlement.ref.id, settlement.fence)
        if answer is Answer.BUSY:
            self.settled -= 1
            tries = self._busy.get(key, (0, settlement))[0] + 1
            self._busy[key] = (tries, settlement)
            delay_s = min(BUSY_MAX_S, BUSY_S * 2 ** min(tries - 1, 16)) * random.random()  # noqa: S311
            self._away += 1
            self._loop.call_later(delay_s, self._again, settlement)
            return
        self._busy.pop(key, None)
        returning = key in self._returning
        self._returning.discard(key)
        doubted = self._doubted.pop(key, None)
        if doubted is not None and answer is not Answer.APPLIED:
            return
        if doubted is not None:
            doubted()
        match answer:
            case Answer.APPLIED | Answer.ALREADY:
                delay_s = _delay_s(settlement, self._returns_max_s) if returning else None
                if delay_s is not None:
                    self._returns(delay_s)
            case Answer.LOST:
                self.settled -= 1
                self.lost += 1
                outcome = type(settlement.outcome).__name__.lower()
                log.warning("settle", answer="lost", job_id=settlement.ref.id, fence=settlement.fence, outcome=outcome)
            case _:
                assert_never(answer)

    def _again(self, settlement: Settlement) -> None:
        self._away -= 1
        self._ready.append(settlement)
        self._wake()

    # -- what the store cannot take ---------------------------------------------------------------

    def apart(self, batch: Batch) -> None:
        """Keep outcomes on which the store failed nobody knows why: each alone from now on, in turn."""
        self._landed(batch)
        # Those on which the store fails again and again hold up neither the others nor the claims.
        self._others_first = batch.suspect >= 0
        suspect = max(0, batch.suspect)
        self._suspects.extend(Batch([settlement], suspect) for settlement in batch.outcomes)

    def refused(self, batch: Batch, error: Exception) -> None:
        """Find the outcome that the store fails on, one by one: it must not hold up the others for ever."""
        self._landed(batch)
        if batch.suspect < 0:
            self._suspects.extend(Batch([settlement], 0) for settlement in batch.outcomes)
            return
        (settlement,) = batch.outcomes
        self._doubted.pop((settlement.ref.id, settlement.fence), None)
        log.error("settle", answer="refused", job_id=settlement.ref.id, fence=settlement.fence, error=repr(error))
        self._returning.discard((settlement.ref.id, settlement.fence))
        if batch.suspect == 0:
            info = ErrorInfo(type(error).__qualname__, cut(f"the outcome could not be stored: {error}", 1_000))
            self._suspects.append(Batch([Settlement(settlement.ref, settlement.fence, Dead(info, "unstorable"))], 1))
        else:
            self.dropped += 1


def _delay_s(settlement: Settlement, max_s: float) -> float | None:
    outcome = settlement.outcome
    return outcome.delay_s if isinstance(outcome, Retry | Snooze) and outcome.delay_s <= max_s else None
