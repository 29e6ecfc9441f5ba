"""A real worker in a thread of the test's process, on a real store."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from goqueue import wiring
from goqueue.engine.worker import Worker
from goqueue.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from goqueue.tasks.app import GoQueue

START_S: Final = 30.0
STOP_S: Final = 60.0


@contextmanager
def running_worker(
    app: GoQueue,
    url: str | None = None,
    *,
    queues: Sequence[str] | None = None,
    settings: WorkerSettings | None = None,
    app_ref: str | None = None,
) -> Iterator[None]:
    """Run a worker inside the ``with`` block; at its end it stops gracefully, as a deploy would stop it.

    ``queues``: by default all that the tasks name. ``app_ref`` (``module:attribute``) lets handlers in processes find
    the application. Raises what the worker raised.
    """
    names = tuple(queues) if queues is not None else tuple(sorted({task.queue for task in app.tasks.values()}))
    app.check()
    there = threading.Event()
    failed: list[BaseException] = []
    stop: list[object] = []

    async def work() -> None:
        store = wiring.open_store(url)
        try:
            await store.open()
            worker = Worker(
                app,
                store,
                settings or WorkerSettings(),
                queues=names,
                app_ref=app_ref,
                completer=wiring.completer(store),
            )
            loop = asyncio.get_running_loop()
            stop.append(lambda: loop.call_soon_threadsafe(worker.stop))
            there.set()
            await worker.run()
        finally:
            await store.close()

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            failed.append(error)
        finally:
            there.set()

    thread = threading.Thread(target=run, name="goqueue-test-worker", daemon=True)
    thread.start()
    if not there.wait(START_S):
        raise TimeoutError(f"the worker has not started in {START_S:g} s")
    if failed:
        raise failed[0]
    try:
        yield
    finally:
        for call in stop:
            assert callable(call)
            if thread.is_alive():
                call()
        thread.join(STOP_S)
        if failed:
            raise failed[0]
        if thread.is_alive():
            raise TimeoutError(f"the worker has not stopped in {STOP_S:g} s")
