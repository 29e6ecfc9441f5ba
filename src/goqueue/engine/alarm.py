"""`Alarm`: one timer for many instants."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

GRAIN_MIN_S: Final = 0.01
GRAINS_MAX: Final = 100
"""Instants that are kept at most."""
SLACK_S: Final = 0.002
"""Event loops round timers to a millisecond: rather a little late than in vain."""


class Alarm:
    """Calls ``ring`` when an instant comes that `set` has asked for, if it is at most ``horizon_s`` ahead.

    Instants are rounded up to a hundredth of the horizon (at least 10 ms), so that what is kept is bounded however
    often it is set; there is a timer for the earliest of them only.
    """

    def __init__(
        self,
        horizon_s: float,
        ring: Callable[[], None],
        *,
        loop: asyncio.AbstractEventLoop,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.horizon_s = horizon_s
        self._grain_s = max(GRAIN_MIN_S, horizon_s / GRAINS_MAX)
        self._ring = ring
        self._loop = loop
        self._now_s = now_s
        self._ticks: set[int] = set()
        self._armed = 0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, delay_s: float) -> None:
        """Ring in ``delay_s`` seconds, or a little later."""
        if delay_s > self.horizon_s:
            return
        tick = math.ceil((self._now_s() + delay_s + SLACK_S) / self._grain_s)
        if tick in self._ticks:
            return
        self._ticks.add(tick)
        if self._timer is None or tick < self._armed:
            self._arm()

    def close(self) -> None:
        """Forget all that was set. Idempotent."""
        self._ticks.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = min(self._ticks)
        delay_s = self._armed * self._grain_s - self._now_s()
        self._timer = self._loop.call_later(max(0.0, delay_s), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        # After the loop was blocked several may have come.
        past = max(self._armed, math.floor(self._now_s() / self._grain_s))
        self._ticks = {tick for tick in self._ticks if tick > past}
        if self._ticks:
            self._arm()
        self._ring()
