"""Threads and processes for handlers: so many, and the attempts that wait for one although they were claimed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from goqueue.engine.prefetch import AIM_S, JUDGE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.engine.running import Running

BRAKE_S: Final = 1.25
"""After some were given back nothing is claimed for a slot that is not free for so long: with the usual ``poll_s`` each
other worker looks once in this time, woken or not. A claim of our own would only bring them here again."""
HOLD_MAX_S: Final = 15.0
"""Longest time between two such tries."""
CALM_S: Final = 5.0
"""When nothing has waited for so long, the tries start anew."""


class Pool:
    """Slots for attempts that need a thread or a process, besides the slot in the worker that each attempt has.

    What waits here is claimed and cannot start, and others could run it. So `look` gives back what the pace of the pool
    will not start soon, and for a moment little is claimed, so that others can take it. Claims cannot choose by the
    kind of handler: a brake on them is one on all the jobs that need no slot of this pool. So it is short, and where
    nobody else takes the jobs, and they come back, they are held for an ever longer time before the next try.
    """

    def __init__(self, slots: int, *, ahead_max: int, now_s: Callable[[], float] = time.monotonic) -> None:
        self.free = slots
        self.allowed = self._max = ahead_max
        """How many may be claimed ahead of the free slots."""
        self.waiting: dict[Running, asyncio.Future[None]] = {}
        """In the order of their turns."""
        self._started = 0
        self._now_s = now_s
        self._since: tuple[float, int] | None = None
        """Since when some have been waiting, and how many had been started then."""
        self._hold_s = JUDGE_S
        self._brake_until = self._try_at = 0.0

    # -- slots ------------------------------------------------------------------------------------

    def take(self) -> bool:
        """Take a slot if one is free."""
        if self.free > 0:
            self.free -= 1
            return True
        return False

    async def wait(self, run: Running) -> None:
        """Wait for a slot. Cancelled, it has none."""
        turn = self.waiting[run] = asyncio.get_running_loop().create_future()
        try:
            await turn
        except BaseException:
            self.waiting.pop(run, None)
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give a slot to who has waited longest."""
        while self.waiting:
            turn = self.waiting.pop(next(iter(self.waiting)))
            if not turn.done():
                turn.set_result(None)
                self._started += 1
                return
        self.free += 1

    # -- claims -----------------------------------------------------------------------------------

    @property
    def braked(self) -> bool:
        """Whether `room` says anything."""
        return self.allowed < self._max

    @property
    def room(self) -> int:
        """How many more jobs may be claimed, as far as this pool is concerned."""
        return max(0, self.free + self.allowed - len(self.waiting))

    def look(self) -> list[Running]:
        """Look, a few times a second, and return those that should be given back: the last ones."""
        now, waiting = self._now_s(), len(self.waiting)
        if self.braked and now >= self._brake_until:
            self.allowed = self._max
        if not waiting:
            self._since = None
            if now - self._brake_until >= CALM_S:
                self._hold_s, self._try_at = JUDGE_S, 0.0
            return []
        self._since = self._since or (now, self._started)
        since, started_then = self._since
        if now - since < JUDGE_S:
            return []
        soon = int((self._started - started_then) / (now - since) * AIM_S)
        self._since = (now, self._started)
        if now < self._try_at or waiting <= 2 * soon:  # the pace changes, and each one that is given back costs a trip
            return []
        self.allowed = min(soon, self._max)
        self._brake_until = now + BRAKE_S
        self._try_at = self._brake_until + self._hold_s
        self._hold_s = min(self._hold_s * 2, HOLD_MAX_S)
        return list(self.waiting)[soon:]


class Pools:
    """All of them, as far as claims are concerned."""

    def __init__(self, *pools: Pool) -> None:
        self._pools = pools
        self.braked: tuple[Pool, ...] = ()
        """Those that `limit` how much is claimed."""

    def limit(self, room: int) -> int:
        """Return how many of ``room`` jobs may be claimed."""
        return min(room, *(pool.room for pool in self.braked)) if self.braked else room

    def look(self) -> list[Running]:
        """Return what should be given back, because it waits and will not start soon."""
        runs = [run for pool in self._pools for run in pool.look()]
        self.braked = tuple(pool for pool in self._pools if pool.braked)
        return runs
