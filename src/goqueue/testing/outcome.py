"""What a sandbox has run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from goqueue.model.outcome import Answer, Complete, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Ran:
    """One attempt: which job, what became of it, and what its handler returned or raised."""

    __slots__ = ("answer", "attempt", "error", "job_id", "kind", "outcome", "returned")

    def __init__(
        self,
        job_id: str,
        kind: str,
        attempt: int,
        outcome: Outcome,
        answer: Answer,
        returned: object = None,
        error: BaseException | None = None,
    ) -> None:
        self.job_id = job_id
        self.kind = kind
        self.attempt = attempt
        self.outcome = outcome
        """A value of `goqueue.model.outcome`: ``Complete``, ``Retry``, ``Snooze``, ``Cancel``, ``Dead``, ``Crash`` …"""
        self.answer = answer
        """What the store said: ``applied``, or ``lost`` for a lease that was not valid any more."""
        self.returned = returned
        self.error = error
        """What the handler raised, itself; None if it returned."""

    @property
    def what(self) -> str:
        """The outcome in one word: ``complete``, ``retry`` …, or ``lost``."""
        return "lost" if self.answer is Answer.LOST else type(self.outcome).__name__.lower()

    @property
    def failed(self) -> bool:
        """Whether its handler raised, and not to be put off, cancelled or handed back."""
        return not isinstance(self.outcome, Complete) and self.what in ("retry", "dead", "crash")

    def __repr__(self) -> str:
        raised = f" {self.error!r}" if self.error is not None else ""
        return f"<{self.kind} {self.job_id} attempt {self.attempt}: {self.what}{raised}>"


class Drained:
    """All that one call has run, in the order in which it ran."""

    __slots__ = ("ran",)

    def __init__(self, ran: Sequence[Ran]) -> None:
        self.ran = tuple(ran)

    def count(self, what: str) -> int:
        """Count the attempts that ended so: ``complete``, ``retry``, ``snooze``, ``cancel``, ``dead``, ``crash`` …"""
        return sum(1 for one in self.ran if one.what == what)

    @property
    def completed(self) -> int:
        """How many jobs are completed now."""
        return self.count("complete")

    @property
    def errors(self) -> tuple[BaseException, ...]:
        """What handlers raised, in order."""
        return tuple(one.error for one in self.ran if one.error is not None)

    def __len__(self) -> int:
        return len(self.ran)

    def __iter__(self) -> Iterator[Ran]:
        return iter(self.ran)

    def __bool__(self) -> bool:
        return bool(self.ran)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in sorted(Counter(one.what for one in self.ran).items()))
        return f"<Drained: {counts or 'nothing'}>"
