"""What a fork does to connections: nothing that the parent, or the server, could notice.

A forked child has copies of its parent's sockets. If it closed a connection, or its garbage collector did, the server
would be told on the parent's line; if it merely kept them, a server would not hear of the parent's death. So the child
puts its copies on /dev/null: nothing reaches the server from it, and the parent's own are as before.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet

import psycopg_pool
from psycopg import Connection, OperationalError
from psycopg_pool import AsyncConnectionPool

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    AnyConnection = Connection[Any] | AsyncConnection[Any]  # Any: rows

__all__ = ["AsyncConnectionPool", "ConnectionPool", "note"]

C = TypeVar("C", bound="Connection[Any]")

_ours: Final[WeakSet[AnyConnection]] = WeakSet()
"""Every connection that this process has made and still holds."""


def note(connection: AnyConnection) -> None:
    """Note a connection that was made: a fork concerns it."""
    _ours.add(connection)


class ConnectionPool(psycopg_pool.ConnectionPool[C]):
    """A pool that a forked child leaves alone: its threads are the parent's, and so may be who holds its locks.

    (A pool of async connections does nothing when it is finalised.)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Any: the pool's own
        self._process = os.getpid()
        super().__init__(*args, **kwargs)

    def __del__(self) -> None:
        if self._process == os.getpid():
            super().__del__()


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
