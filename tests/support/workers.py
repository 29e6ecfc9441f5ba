"""A worker beside the test, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from goqueue.engine.worker import Worker
from goqueue.settings import WorkerSettings
from goqueue.tasks.app import GoQueue
from goqueue.wiring import open_store

DEADLINE_S = 60.0


@contextmanager
def working(app: GoQueue, url: str, *, queues: tuple[str, ...] = ("default",)) -> Iterator[None]:
    """Run jobs of ``queues`` while the block runs; what the worker raises is raised after it."""
    ready = threading.Event()
    stop: list[tuple[asyncio.AbstractEventLoop, Worker]] = []
    raised: list[BaseException] = []

    async def run() -> None:
        store = open_store(url)
        await store.open()
        try:
            worker = Worker(app, store, WorkerSettings(), queues=queues)
            stop.append((asyncio.get_running_loop(), worker))
            ready.set()
            await worker.run()
        finally:
            await store.close()

    def work() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            raised.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    try:
        assert ready.wait(DEADLINE_S)
        yield
    finally:
        for loop, worker in stop:
            loop.call_soon_threadsafe(worker.stop_gracefully)
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        for error in raised:
            raise error
