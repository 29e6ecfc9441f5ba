"""Do something a little later, off the caller's path: on the running loop, or on one thread of the process."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from goqueue.model.errors import GoQueueError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_tasks: set[asyncio.Task[None]] = set()


def async_after(seconds: float, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``action`` on the running loop after ``seconds``. Its errors are dropped: polls make up for a wake-up."""
    asyncio.get_running_loop().call_later(seconds, _start, action)


def _start(action: Callable[[], Coroutine[Any, Any, None]]) -> None:
    task = asyncio.get_running_loop().create_task(_quietly(action), name="goqueue-later")
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _quietly(action: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await action()
    except GoQueueError:
        return


def after(seconds: float, action: Callable[[], None]) -> None:
    """Run ``action`` on a daemon thread after ``seconds``. What it raises is dropped, as with `async_after`."""

    def quietly() -> None:
        try:
            action()
        except GoQueueError:
            return

    timer = threading.Timer(seconds, quietly)
    timer.daemon = True
    timer.start()
