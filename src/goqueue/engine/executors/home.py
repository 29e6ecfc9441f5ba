"""Where handlers live in a process of their own: the application, its lifespan, and an event loop for both.

The loop runs in a thread, so that what the lifespan has opened (pools, sessions) lives on while a plain function has
the main thread, and `Context.run` reaches it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
from typing import TYPE_CHECKING, TypeVar

from goqueue.engine.failure import HandlerNotStarted
from goqueue.model.errors import DefinitionError
from goqueue.tasks.app import GoQueue
from goqueue.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

    from goqueue.engine.executors import wire
    from goqueue.tasks.onion import Layers

T = TypeVar("T")


class Home:
    """The application that ``ref`` (``module:attribute``) names, entered once; without one, only a loop."""

    def __init__(self, ref: str) -> None:
        self.state: object = None
        """What the application's lifespan yields."""
        self._ref = ref
        self._app: GoQueue | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._leaving: asyncio.Event | None = None
        self._life: Future[None] | None = None

    def enter(self) -> None:
        """Import the application and enter its lifespan. Raises whatever these raise."""
        if not self._ref:
            return
        self._app = import_app(self._ref)
        if self._app.lifespan is not None:
            entered = threading.Event()
            self._life = self.submit(self._live(self._app, entered))
            self._life.add_done_callback(lambda _: entered.set())
            entered.wait()
            if self._life.done():
                self._life.result()
                raise HandlerNotStarted("the lifespan of the application ended before its first job")

    def leave(self) -> None:
        """Leave the lifespan, if it was entered. Raises what that raises."""
        if self._life is not None and not self._life.done() and self._loop is not None and self._leaving is not None:
            self._loop.call_soon_threadsafe(self._leaving.set)
            self._life.result()

    def task(self, job: wire.Run) -> Task[..., object]:
        """Return the task of a job. Raises `DefinitionError`."""
        task = self._app.runs.get(job.lease.kind) if self._app is not None else None
        return task if task is not None else find_task(job.module, job.name)

    @property
    def middleware(self) -> Layers:
        """The application's; none if it is not known."""
        return self._app.middleware if self._app is not None else ()

    def submit(self, work: Coroutine[object, object, T]) -> Future[T]:
        """Run ``work`` on the loop, in the caller's context."""
        return asyncio.run_coroutine_threadsafe(work, self._loop or self._start_loop())

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run ``work`` on the loop and wait for it."""
        if threading.get_ident() == self._thread_id:
            work.close()
            raise RuntimeError("ctx.run is for plain functions, which have a thread: await it instead")
        return self.submit(work).result()

    async def _live(self, app: GoQueue, entered: threading.Event) -> None:
        """One task for all of it: what is entered in a task must often be left in the same."""
        self._leaving = asyncio.Event()
        if app.lifespan is not None:
            async with app.live() as self.state:
                entered.set()
                await self._leaving.wait()

    def _start_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._turn, args=(loop,), name="goqueue-loop", daemon=True).start()
        return loop

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._thread_id = threading.get_ident()
        asyncio.set_event_loop(loop)
        while True:
            # A SystemExit or KeyboardInterrupt of a task that a handler has left behind ends the loop's turn, not ours.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                loop.run_forever()


def import_app(ref: str) -> GoQueue:
    """Import the application that ``module:attribute`` names (``module`` alone: its only one)."""
    module, _, attribute = ref.partition(":")
    found: object = importlib.import_module(module)
    if not attribute:
        apps = {id(value): value for value in vars(found).values() if isinstance(value, GoQueue)}
        found = next(iter(apps.values())) if len(apps) == 1 else None
    for part in attribute.split(".") if attribute else ():
        found = getattr(found, part, None)
    if not isinstance(found, GoQueue):
        raise DefinitionError(f"{ref} is not a GoQueue")
    return found


def find_task(module: str, name: str) -> Task[..., object]:
    """Import the task again. Its decorator has replaced the function under the function's own name."""
    if "<locals>" in name or module == "__main__":
        raise DefinitionError(f"{module}.{name}: run_in='process' needs a function at the top of an importable module")
    found: object = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not isinstance(found, Task):
        raise DefinitionError(f"{module}.{name} is not a task: keep what its decorator returns under its name")
    return found
