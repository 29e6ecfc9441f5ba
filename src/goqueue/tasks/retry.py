"""When the next attempt starts: pure arithmetic, with the random number as an argument."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from goqueue.model import limits
from goqueue.model.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Jitter(StrEnum):
    """How much of a delay is left to chance, so that jobs that failed together do not come back together.

    The names are those of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """

    FULL = "full"
    """Anything between 0 and the delay."""
    EQUAL = "equal"
    """Half of the delay, and anything up to the other half."""
    NONE = "none"


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How long a failed job waits, and which errors are not worth another attempt.

    The default waits 2 s, 4 s, 8 s … up to an hour, half of it by chance: 20 attempts take about 8 hours.
    """

    base_s: float = 2.0
    factor: float = 2.0
    cap_s: float = 3600.0
    jitter: Jitter = Jitter.EQUAL
    delays_s: tuple[float, ...] = ()
    """If not empty: the delays themselves, the last one again and again; base, factor and cap do not count."""
    no_retry_on: tuple[type[BaseException], ...] = ()
    """An error of these types makes the job dead at once."""

    def __post_init__(self) -> None:
        """Refuse what could not be computed with."""
        _in_range("base_s", self.base_s, 0, limits.DELAY_S_MAX)
        _in_range("cap_s", self.cap_s, 0, limits.DELAY_S_MAX)
        _in_range("factor", self.factor, 1, 100)
        for delay_s in self.delays_s:
            _in_range("delays_s", delay_s, 0, limits.DELAY_S_MAX)
        for cls in self.no_retry_on:
            _exception_class(cls)

    @classmethod
    def exponential(
        cls,
        *,
        base_s: float = 2.0,
        factor: float = 2.0,
        cap_s: float = 3600.0,
        jitter: Jitter = Jitter.EQUAL,
        no_retry_on: Sequence[type[BaseException]] = (),
    ) -> RetryPolicy:
        """Wait ``base_s``, then ``factor`` times as long each time, at most ``cap_s``."""
        return cls(base_s=base_s, factor=factor, cap_s=cap_s, jitter=Jitter(jitter), no_retry_on=tuple(no_retry_on))

    @classmethod
    def fixed(
        cls, delay_s: float, *, jitter: Jitter = Jitter.NONE, no_retry_on: Sequence[type[BaseException]] = ()
    ) -> RetryPolicy:
        """Wait the same time after each attempt."""
        return cls(delays_s=(delay_s,), jitter=Jitter(jitter), no_retry_on=tuple(no_retry_on))

    @classmethod
    def list(
        cls, delays_s: Sequence[float], *, jitter: Jitter = Jitter.NONE, no_retry_on: Sequence[type[BaseException]] = ()
    ) -> RetryPolicy:
        """Wait these times in turn, and the last one after every further attempt."""
        if not delays_s:
            raise DefinitionError("retry: the list of delays is empty")
        return cls(delays_s=tuple(delays_s), jitter=Jitter(jitter), no_retry_on=tuple(no_retry_on))

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

    def retries(self, error: BaseException) -> bool:
        """Tell whether another attempt may help after this error."""
        return not isinstance(error, self.no_retry_on)

    def _whole(self, attempt: int) -> float:
        if self.delays_s:
            return self.delays_s[min(attempt, len(self.delays_s)) - 1]
        try:
            # As floats: an int factor would be raised to an int of a million digits.
            return min(self.cap_s, self.base_s * float(self.factor) ** (attempt - 1))
        except OverflowError:
            return self.cap_s if self.base_s > 0 else 0.0


def _in_range(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DefinitionError(f"retry: {name} must be from {low:g} to {high:g}, is {value!r}")


def _exception_class(value: object) -> None:
    if not (isinstance(value, type) and issubclass(value, BaseException)):
        raise DefinitionError(f"retry: no_retry_on takes exception classes, not {value!r}")


DEFAULT_RETRY = RetryPolicy()
