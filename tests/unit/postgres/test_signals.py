"""The listener's socket."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from psycopg import OperationalError

from goqueue.settings import StoreSettings
from goqueue.store.postgres._async.database import AsyncDatabase
from goqueue.store.postgres.signals import Listener


class Broken:
    """A connection whose socket has come to its end, and has been closed by the driver's library on finding it."""

    def __init__(self, own: socket.socket) -> None:
        self._own = own
        self.pgconn = self

    def consume_input(self) -> None:
        """Find the end."""
        self._own.close()
        raise OperationalError("server closed the connection unexpectedly")


async def test_a_socket_that_was_closed_is_watched_no_longer() -> None:
    """The next connection of the process may get its number."""
    loop = asyncio.get_running_loop()
    listener = Listener(AsyncDatabase("postgresql://127.0.0.1/none", StoreSettings()), self_test_s=0.1)
    own, other = socket.socketpair()
    number = own.fileno()
    connection: Any = Broken(own)
    broken: asyncio.Future[None] = loop.create_future()
    watched: list[bool] = []

    def read() -> None:
        listener._read(connection, number, broken)
        watched.append(loop.remove_reader(number))

    loop.add_reader(number, read)
    other.close()
    async with asyncio.timeout(5):
        with pytest.raises(OperationalError):
            await broken
    assert watched == [False]
