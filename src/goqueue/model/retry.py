"""When the next attempt starts: numbers that a task or one job carries, and pure arithmetic on them."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Jitter(StrEnum):
    """How much of a delay is left to chance, so that jobs that failed together do not come back together.

    The names are those of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """

    FULL = "full"
    """Anything between 0 and the delay."""
    EQUAL = "equal"
    """Half of the delay, and anything up to the other half."""
    NONE = "none"


class RetryDelays(msgspec.Struct, frozen=True, kw_only=True):
    """How long a failed job waits before its next attempt, and for how long it is tried at all.

    The default waits 2 s, 4 s, 8 s … up to an hour, half of it by chance: 20 attempts take about 8 hours.
    A job that carries one of its own is retried by it; which errors are retried at all stays the task's to say.
    """

    base_s: float = 2.0
    factor: float = 2.0
    cap_s: float = 3600.0
    jitter: Jitter = Jitter.EQUAL
    delays_s: tuple[float, ...] = ()
    """If not empty: the delays themselves, the last one again and again; base, factor and cap do not count."""
    retry_for_s: float | None = None
    """No attempt starts later than this after the first one; None: until ``max_attempts``."""

    def delay_s(self, attempt: int, random01: float) -> float:
        """Return the seconds from the failure of attempt number ``attempt`` (1 is the first) to the next one.

        ``random01`` is a number in [0, 1). Cannot overflow, however large ``attempt`` is.
        """
        whole = self._whole(max(attempt, 1))
        if self.jitter is Jitter.FULL:
            return whole * random01
        if self.jitter is Jitter.EQUAL:
            return whole / 2 + whole / 2 * random01
        return whole

    def _whole(self, attempt: int) -> float:
        if self.delays_s:
            return self.delays_s[min(attempt, len(self.delays_s)) - 1]
        try:
            # As floats: an int factor would be raised to an int of a million digits.
            return min(self.cap_s, self.base_s * float(self.factor) ** (attempt - 1))
        except OverflowError:
            return self.cap_s if self.base_s > 0 else 0.0
