"""Pools that leave their process, or their loop, as they should: quietly.

A forked child has copies of its parent's sockets. If it closed a connection, or its garbage collector did, the server
would be told on the parent's line; if it merely kept them, a server would not hear of the parent's death. So the child
puts its copies on /dev/null: nothing reaches the server from it, and the parent's own are as before.

When a loop ends its tasks are cancelled. A worker of the driver's pool takes that, while it connects, for a failed
attempt: it logs a warning and goes on waiting for work, and `asyncio.run` never returns. Here it ends.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from weakref import WeakSet

import psycopg_pool
from psycopg import AsyncConnection, Connection, OperationalError

if TYPE_CHECKING:
    AnyConnection = Connection[Any] | AsyncConnection[Any]  # Any: rows

C = TypeVar("C", bound="Connection[Any]")
AC = TypeVar("AC", bound="AsyncConnection[Any]")

_ours: Final[WeakSet[AnyConnection]] = WeakSet()
"""Every connection that this process has made and still holds."""


def note(connection: AnyConnection) -> None:
    """Note a connection that was made: a fork concerns it."""
    _ours.add(connection)


class ConnectionPool(psycopg_pool.ConnectionPool[C]):
    """A pool that a forked child leaves alone: its threads are the parent's, and so may be who holds its locks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Any: the pool's own
        self._process = os.getpid()
        super().__init__(*args, **kwargs)

    def __del__(self) -> None:
        if self._process == os.getpid():
            super().__del__()


class AsyncConnectionPool(psycopg_pool.AsyncConnectionPool[AC]):
    """A pool whose workers end when they are cancelled, whatever they are at. (Finalised, it does nothing at all.)"""

    @classmethod
    async def worker(cls, q: Any) -> None:  # Any: the pool's own
        """Do the pool's work until told to stop."""
        with suppress(_Cancelled):
            return await super().worker(cast("Any", _Cancellable(q)))
        # Anew: the first one's frames hold a half-made connection, and the task would keep them.
        raise asyncio.CancelledError

    async def _connect(self, timeout: float | None = None) -> AC:  # noqa: ASYNC109  the pool's signature
        try:
            return await super()._connect(timeout)
        except asyncio.CancelledError:
            raise _Cancelled from None


class _Cancelled(BaseException):
    """A cancellation that the pool does not take for a failure to connect."""


class _Cancellable:
    """A queue of the pool's work that gives nothing to a task that was cancelled."""

    def __init__(self, queue: asyncio.Queue[Any]) -> None:
        self._queue = queue

    async def get(self) -> Any:
        """Wait for work."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        return await self._queue.get()


def _in_child() -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        for connection in list(_ours):
            try:
                socket = connection.fileno()
            except OperationalError:
                continue  # it is closed
            os.dup2(null, socket, inheritable=False)
    finally:
        os.close(null)
    _ours.clear()


os.register_at_fork(after_in_child=_in_child)
