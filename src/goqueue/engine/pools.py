"""Threads and processes for handlers: so many, and the attempts that wait for one although they were claimed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from goqueue.engine.prefetch import AIM_S, JUDGE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from goqueue.engine.running import Running

PAUSE_S: Final = 1.0
"""When nothing at all may wait, one claim tries after this whether that is still so. Doubles up to `PAUSE_MAX_S`."""
PAUSE_MAX_S: Final = 15.0


class Pool:
    """Slots for attempts that need a thread or a process, besides the slot in the worker that each attempt has.

    What waits here is claimed and cannot start, and others could run it. So `look` gives back what the pace of the pool
    will not start soon, and less may be claimed ahead from then on. Claims cannot choose by the kind of handler, and
    where nobody else works the same jobs come back: once nothing may wait any more, single claims after ever longer
    pauses try whether that is still so. While nothing waits, the allowance doubles with each look.
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
        self._pause_s = PAUSE_S
        self._grow_at = 0.0

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
        if not waiting:
            self._since = None
            if self.braked and now >= self._grow_at:
                if self.allowed == 0:  # let the single one come, and be seen
                    self._grow_at = now + JUDGE_S
                self.allowed = min(self._max, max(1, self.allowed * 2))
                if self.allowed == self._max:
                    self._pause_s = PAUSE_S
            return []
        self._since = self._since or (now, self._started)
        since, started_then = self._since
        if now - since < JUDGE_S:
            return []
        soon = int((self._started - started_then) / (now - since) * AIM_S)
        self._since = (now, self._started)
        if waiting <= 2 * soon:  # the pace changes, and each one that is given back costs a trip
            return []
        # If they are most of what may be claimed ahead, the queue is full of them; else they are a few among others.
        self.allowed = soon if 2 * waiting >= self.allowed else max(soon, self.allowed // 2)
        if self.allowed == 0:
            self._grow_at = now + self._pause_s
            self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S)
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
