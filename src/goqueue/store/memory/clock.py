"""The one clock of a memory store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Where a frozen clock starts: any instant would do, a fixed one makes failures repeatable."""


class Clock:
    """Real UTC time plus what tests have travelled; with ``frozen=True`` only what they have travelled.

    ``at``: frozen there.
    """

    def __init__(self, *, frozen: bool = False, at: datetime | None = None) -> None:
        self._frozen_at = at or (EPOCH if frozen else None)
        self._travelled = timedelta()

    def now(self) -> datetime:
        """Return the store's instant."""
        return (self._frozen_at or datetime.now(UTC)) + self._travelled

    def advance(self, seconds: float) -> None:
        """Move the clock by ``seconds``; negative ones move it back, as a test may when it is over."""
        self._travelled += timedelta(seconds=seconds)
