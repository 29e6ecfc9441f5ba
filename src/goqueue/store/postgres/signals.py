"""Wake-ups by LISTEN, on a connection of their own, shared by all listeners of a process."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

import structlog

from goqueue.model.errors import StoreUnavailable
from goqueue.store.postgres.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from goqueue.store.postgres._async.database import AsyncDatabase, AsyncDeadlineConnection

PROBE_S: Final = 10.0
"""A silent connection is asked for a sign of life this often."""
BACKOFF_MAX_S: Final = 5.0
CANCEL_AGAIN_S: Final = 0.5

log = structlog.get_logger("goqueue.store")


class Listener:
    """One LISTEN connection. ``pushes`` tells whether notifications arrive: behind a transaction pooler they do not."""

    def __init__(self, database: AsyncDatabase, *, self_test_s: float) -> None:
        self._database = database
        self._self_test_s = self_test_s
        self._waiters: dict[asyncio.Queue[str], frozenset[str]] = {}
        self._task: asyncio.Task[None] | None = None
        self._tested = asyncio.Event()
        self._closed = asyncio.Event()
        self.pushes = False

    async def start(self) -> None:
        """Begin to listen, and wait until the self-test has told whether notifications arrive."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="goqueue-listen")
        try:
            async with asyncio.timeout(self._self_test_s * 2 + 5):
                await self._tested.wait()
        except TimeoutError:
            return  # the connection is not up yet: polling until it is

    async def close(self) -> None:
        """Stop listening and end all `topics` iterators. Idempotent."""
        self._closed.set()
        for queue in self._waiters:
            _put(queue, "")
        task, self._task = self._task, None
        if task is not None:
            while not task.done():
                task.cancel()  # again and again: Python 3.11's wait_for, which the driver's pool uses, can swallow one
                await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)

    async def topics(self, names: Sequence[str]) -> AsyncIterator[str]:
        """Yield each of ``names`` when it was notified, and "" when something may have been missed: at first, too."""
        queue: asyncio.Queue[str] = asyncio.Queue(maxsize=max(16, 2 * len(names)))
        self._waiters[queue] = frozenset(names)
        _put(queue, "")
        try:
            while not self._closed.is_set():
                name = await queue.get()
                if not self._closed.is_set():
                    yield name
        finally:
            del self._waiters[queue]

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                connection = await self._database.connect()
            except StoreUnavailable:
                failures += 1
                await asyncio.sleep(random.uniform(0, min(BACKOFF_MAX_S, 0.1 * 2 ** min(failures, 10))))  # noqa: S311
                continue
            try:
                self.pushes = await self._database.hears_itself(connection, self._self_test_s)
                if self.pushes:
                    await connection.execute("LISTEN goqueue")
                self._tested.set()
                self._deliver("")  # while nobody listened, something may have been missed
                if not self.pushes:
                    log.warning(
                        "poll",
                        reason="notifications do not arrive: a transaction pooler sits between",
                        hint="jobs are picked up at the poll interval",
                    )
                    return
                failures = 0
                await self._listen(connection)
            except (*DriverError, StoreUnavailable) as e:
                failures += 1
                log.warning("listen", error=str(e).strip(), hint="polling until the connection is back")
                await asyncio.sleep(random.uniform(0, min(BACKOFF_MAX_S, 0.1 * 2 ** min(failures, 10))))  # noqa: S311
            finally:
                await connection.close()

    async def _listen(self, connection: AsyncDeadlineConnection) -> None:
        while True:
            async for notification in connection.notifies(timeout=PROBE_S):
                self._deliver(notification.payload)
            await connection.execute("SELECT 1")

    def _deliver(self, topic: str) -> None:
        for queue, names in self._waiters.items():
            if topic == "" or topic in names:
                _put(queue, topic)


def _put(queue: asyncio.Queue[Any], item: str) -> None:
    # Coalesce: a queue that is full already says all that there is to say.
    if not queue.full():
        queue.put_nowait(item)
