"""Wake-ups by LISTEN, on a connection of their own, shared by all listeners of a process."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import structlog

from goqueue.model.errors import GoQueueError, StoreUnavailable
from goqueue.store.postgres.errors import DriverError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from goqueue.store.postgres._async.database import AsyncDatabase, AsyncDeadlineConnection

PROBE_S: Final = 10.0
"""A silent connection is asked for a sign of life this often."""
BACKOFF_BASE_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
"""So long may the pause between two attempts to connect become; 200 workers that lost one server come back spread."""
CANCEL_AGAIN_S: Final = 0.5
TEST_AGAIN_S: Final = 60.0
TEST_AGAIN_MAX_S: Final = 3600.0
"""A listener that did not hear itself tries again after these: the server may only have been slow."""
TEST_AGAIN_WITHIN_S: Final = 5.0
"""So long it then listens, at least: nobody waits for it."""

log = structlog.get_logger("goqueue.store")


class Listener:
    """One LISTEN connection. ``pushes`` tells whether notifications arrive: behind a transaction pooler they do not."""

    def __init__(self, database: AsyncDatabase, *, self_test_s: float) -> None:
        self._database = database
        self._self_test_s = self_test_s
        self._waiters: set[_Heard] = set()
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
        for heard in self._waiters:
            heard.put("")
        task, self._task = self._task, None
        if task is not None:
            while not task.done():
                task.cancel()  # again and again: Python 3.11's wait_for, which the driver's pool uses, can swallow one
                await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)

    async def topics(self, names: Sequence[str]) -> AsyncIterator[str]:
        """Yield each of ``names`` when it was notified, and "" when something may have been missed: at first, too."""
        heard = _Heard(names)
        self._waiters.add(heard)
        heard.put("")
        try:
            while not self._closed.is_set():
                name = await heard.get()
                if not self._closed.is_set():
                    yield name
        finally:
            self._waiters.discard(heard)

    async def _run(self) -> None:
        failures = deaf = 0
        while True:
            try:
                connection = await self._database.connect()
            except GoQueueError:
                failures += 1
                await asyncio.sleep(pause_s(failures))
                continue
            try:
                timeout_s = max(self._self_test_s, TEST_AGAIN_WITHIN_S) if deaf else self._self_test_s
                heard = await self._database.hears_itself(connection, timeout_s)
                if not heard and self.pushes:
                    # No pooler sits between, or it would not have been heard before: the server was only too slow.
                    raise StoreUnavailable("the connection does not hear itself")
                self.pushes = heard
                if heard:
                    await connection.execute("LISTEN goqueue")
                self._tested.set()
                self._deliver("")  # while nobody listened, something may have been missed
                if heard:
                    if deaf:
                        log.info("listen", reason="notifications arrive: the server was slow before", tests=deaf + 1)
                    failures = deaf = 0
                    await self._listen(connection)
                    continue
                deaf += 1
                pause = again_s(deaf)
                if deaf == 1:
                    log.warning(
                        "poll",
                        reason="notifications do not arrive: a transaction pooler sits between, or the server is slow",
                        hint="jobs are picked up at the poll interval; it is tried again now and then",
                        again_s=round(pause, 1),
                    )
            except (*DriverError, GoQueueError) as e:
                failures += 1
                self._database.lost += 1
                log.warning("listen", error=str(e).strip(), hint="polling until the connection is back")
                pause = pause_s(failures)
            finally:
                await connection.close()
            await asyncio.sleep(pause)

    async def _listen(self, connection: AsyncDeadlineConnection) -> None:
        """Deliver what is notified, until the connection breaks. Straight from the socket: a lone job waits for it."""
        loop, socket = asyncio.get_running_loop(), connection.fileno()
        # What arrives with the answer to a probe comes by the driver.
        connection.add_notify_handler(lambda notification: self._deliver(notification.payload))
        while True:
            broken: asyncio.Future[None] = loop.create_future()
            loop.add_reader(socket, self._read, connection, socket, broken)
            try:
                await asyncio.wait({broken}, timeout=PROBE_S)
            finally:
                loop.remove_reader(socket)
            if broken.done():
                broken.result()
            await connection.execute("SELECT 1")

    def _read(self, connection: AsyncDeadlineConnection, socket: int, broken: asyncio.Future[None]) -> None:
        try:
            connection.pgconn.consume_input()
            while (notified := connection.pgconn.notifies()) is not None:
                self._deliver(notified.extra.decode(errors="replace"))
        except Exception as e:
            # Now: libpq has closed it, and the next connection of this process may get the same number.
            asyncio.get_running_loop().remove_reader(socket)
            if not broken.done():
                broken.set_exception(e)

    def _deliver(self, topic: str) -> None:
        for heard in self._waiters:
            if topic == "" or topic in heard.names:
                heard.put(topic)


class _Heard:
    """Topics that have come and were not asked for yet: each once, so that a burst of one never hides another."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names: Final = frozenset(names)
        self._waiting: dict[str, None] = {}
        self._changed = asyncio.Event()

    def put(self, topic: str) -> None:
        self._waiting[topic] = None
        self._changed.set()

    async def get(self) -> str:
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        topic = next(iter(self._waiting))
        del self._waiting[topic]
        return topic


def pause_s(failures: int, random01: Callable[[], float] = random.random) -> float:
    """Return how long to wait after so many failures in a row: exponential with full jitter, capped.

    Never quite nothing: a connection that breaks at once must not make a loop spin.
    """
    bound_s: float = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2 ** min(failures, 20))
    return max(0.01, bound_s * random01())


def again_s(deaf: int, random01: Callable[[], float] = random.random) -> float:
    """Return how long to wait for the next self-test after so many that heard nothing: a minute first, an hour at last.

    Behind a pooler each costs two connections, and leaves a channel of its own behind on one of the server's sessions.
    """
    bound_s: float = min(TEST_AGAIN_MAX_S, TEST_AGAIN_S * 2 ** min(deaf - 1, 20))
    return bound_s * (0.5 + random01() / 2)
