"""Beats for a worker that cannot beat for itself, because a handler sits on its event loop or on the GIL.

The supervisor has one for each of its processes, and silences it when it gives the process up. A worker that is
embedded in an application has one in a thread, with a store of its own: that helps when the loop is blocked, not when
the GIL is held, and is the weaker for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec
import structlog

from goqueue.engine.backoff import Backoff
from goqueue.engine.ending import CANCEL_AGAIN_S
from goqueue.engine.keeper import beat_every_s
from goqueue.model.errors import GoQueueError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from goqueue.model.lease import Beat, Beaten
    from goqueue.settings import WorkerSettings
    from goqueue.store.port import WorkStore

log = structlog.get_logger("goqueue.supervisor")


class Speaker:
    """Speaks when the worker has been silent for one and a half of its beats. ``spoken(sent_at, ttl_s)`` is told."""

    def __init__(
        self,
        settings: WorkerSettings,
        extend: Callable[[Beat], Awaitable[Beaten]],
        *,
        pid: int,
        spoken: Callable[[float, float], None],
    ) -> None:
        self.last: Beat | None = None
        self._lease_s = settings.lease_s
        self._patience_s = min(beat_every_s(settings) * 1.5, settings.lease_s / 2)
        self._extend = extend
        self._pid = pid
        self._spoken = spoken
        self._heard_at = self._spoke_at = time.monotonic()

    def hear(self, beat: Beat) -> None:
        """Note that the worker has just beaten for itself."""
        self.last = msgspec.structs.replace(beat, held=())  # only the worker can speak for its leases
        self._heard_at = self._spoke_at = time.monotonic()

    async def run(self) -> None:
        """Watch until cancelled."""
        backoff = Backoff(cap_s=min(0.5, self._patience_s / 2))
        while True:
            left_s = self._spoke_at + self._patience_s - time.monotonic()
            if self.last is None or left_s > 0:  # None: not registered yet, so it holds no leases
                await asyncio.sleep(max(0.02, left_s))
                continue
            sent_at = time.monotonic()
            try:
                async with asyncio.timeout(self._lease_s / 2):
                    await self._extend(msgspec.structs.replace(self.last, ttl_s=self._lease_s))
            except (Unavailable, TimeoutError) as error:
                log.warning("beat_for", pid=self._pid, error=str(error) or "no answer in time")
                await asyncio.sleep(backoff.next_s())
                continue
            except Exception:
                log.exception("beat_for", pid=self._pid)
                await asyncio.sleep(backoff.next_s())
                continue
            log.warning("beat_for", pid=self._pid, silent_s=round(sent_at - self._heard_at, 1))
            backoff.reset()
            self._spoke_at = sent_at
            self._spoken(sent_at, self._lease_s)


class SpeakerThread:
    """A `Speaker` in a thread of its own, for a worker without a supervisor. ``store`` opens a second store there."""

    def __init__(
        self,
        settings: WorkerSettings,
        store: Callable[[], AbstractAsyncContextManager[WorkStore]],
        *,
        pid: int,
        beaten_at: Callable[[float, float], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._pid = pid
        self._beaten_at = beaten_at
        self._spoken: deque[tuple[float, float]] = deque(maxlen=1_000)
        self._speaker: Speaker | None = None
        self._last: Beat | None = None
        self._loop = asyncio.get_running_loop()
        self._stop: Callable[[], object] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="goqueue-beats", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def tell(self, beat: Beat) -> None:
        """Say that the worker has just beaten for itself. On the worker's loop."""
        self._last = beat
        if self._speaker is not None:
            self._speaker.hear(beat)

    def read(self) -> None:
        """Tell the worker of the beats that were made for it. On the worker's loop."""
        while self._spoken:
            self._beaten_at(*self._spoken.popleft())

    async def close(self) -> None:
        """Stop watching, and wait until the thread has closed its store. Idempotent."""
        self._stopped.set()
        until = time.monotonic() + self._settings.lease_s
        while self._thread.is_alive() and time.monotonic() < until:
            if self._stop is not None:
                self._stop()  # again and again: a cancellation can get lost
            await asyncio.to_thread(self._thread.join, CANCEL_AGAIN_S)

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._watch())

    async def _watch(self) -> None:
        loop, me = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            if me is not None:
                with contextlib.suppress(RuntimeError):  # the loop has been closed
                    loop.call_soon_threadsafe(me.cancel)

        self._stop = stop
        backoff = Backoff(cap_s=self._settings.lease_s / 4)
        while not self._stopped.is_set():
            try:
                async with self._store() as store:
                    backoff.reset()
                    self._speaker = Speaker(self._settings, store.extend, pid=self._pid, spoken=self._speak)
                    if self._last is not None:
                        self._speaker.hear(self._last)
                    await self._speaker.run()
            except GoQueueError as error:
                log.warning("beat_for", pid=self._pid, error=str(error))
            except Exception:  # whatever the store raises: without this thread nobody would beat for a blocked loop
                log.exception("beat_for", pid=self._pid)
            if not self._stopped.is_set():
                await asyncio.sleep(backoff.next_s())

    def _speak(self, sent_at: float, ttl_s: float) -> None:
        self._spoken.append((sent_at, ttl_s))
        with contextlib.suppress(RuntimeError):  # the worker's loop has been closed
            self._loop.call_soon_threadsafe(self.read)
