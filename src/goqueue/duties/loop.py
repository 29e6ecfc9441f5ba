"""`Loop`: a background duty with one start/stop contract, which survives a double stop and a stop before the start."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.model.errors import PermissionDenied, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

RETRY_S: Final = 0.2
"""A tick for which the store was away comes again within this time, then within twice that, and so on."""
RETRY_MAX_S: Final = 5.0
CANCEL_AGAIN_S: Final = 0.5
"""A loop that has not ended this long after its cancellation is cancelled again."""

log = structlog.get_logger("goqueue.duties")


class Loop:
    """Calls ``tick`` every ``every_s`` (jittered), the first time at once. What a tick raises ends the tick only."""

    def __init__(self, name: str, every_s: float, tick: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self._every_s = every_s
        self._tick = tick
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. Does nothing while it runs."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"goqueue-{self.name}")

    async def stop(self) -> None:
        """End, and wait until it has ended. Idempotent; also before `start`, and `start` works again afterwards."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()  # again and again: one can get lost, see `_run`, in a tick that then goes on waiting
            await asyncio.wait([task], timeout=CANCEL_AGAIN_S)

    async def _run(self) -> None:
        me = asyncio.current_task()
        failures = 0
        while True:
            # Jittered, so that the duties of many processes spread.
            delay_s = self._every_s * (0.9 + random.random() / 5)  # noqa: S311
            try:
                await self._tick()
                failures = 0
            except Unavailable as error:
                delay_s = min(delay_s, self._retry_s(failures))
                failures += 1
                log.warning(self.name, error=str(error))
            except PermissionDenied as error:  # its message says what to do; where it came from does not help
                log.warning(self.name, error=str(error))
            except Exception:
                log.exception(self.name)
            # A cancellation can get lost in a tick: Python 3.11's `asyncio.wait_for`, which the pool of connections
            # uses, swallows one that comes in the same turn as what it waits for. The task still knows of it.
            if me is not None and me.cancelling():
                return
            await asyncio.sleep(delay_s)

    @staticmethod
    def _retry_s(failures: int) -> float:
        bound_s = min(RETRY_MAX_S, RETRY_S * 2.0 ** min(failures, 16))
        return max(0.01, bound_s * random.random())  # noqa: S311  full jitter; never quite nothing
