# Generated from src/goqueue/client/_async/life.py by scripts/unasync.py: change that and run `make generate`.
"""`Life`: how a client opens its store, where the opened store may be used, and how it is closed.

What is open belongs to the process that opened it and, for async clients, to the event loop. A forked child begins
with nothing open and leaves its parent's alone; so does a new loop once the old one is closed.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from goqueue.client._sync.primitives import Gatherer, Lock, Place
from goqueue.client._sync.waiter import Waiter
from goqueue.model.errors import ClientClosed, WrongLoop

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from goqueue.settings import ClientSettings
    from goqueue.store.jobs_sync import JobStore

_CLOSE_S: Final = 5.0
"""How long `close` lets enqueues that are under way be stored."""
_lives: Final[WeakSet[Life]] = WeakSet()
"""All clients of this process: a fork concerns each."""


class Life:
    """The life of one client. Opens at the first use; after `close` every call raises `ClientClosed`."""

    def __init__(self, connect: Callable[[], JobStore], settings: ClientSettings) -> None:
        self._connect = connect
        self._settings = settings
        self._closed = False
        self._guard = threading.Lock()  # held for moments only, never across an await
        self._left: JobStore | None = None
        """The parent's store, in a forked child. Kept, so that nothing of it is finalised before its sockets are."""
        self._begin(Place())
        _lives.add(self)

    def _begin(self, place: Place) -> None:
        """Be as if nothing had been opened yet."""
        self._place = place
        self._store: JobStore | None = None
        self._gatherer: Gatherer | None = None
        """There when the store is open."""
        self._opening = Lock()
        self._waiter = Waiter(self._open, self._settings)

    # -- where --------------------------------------------------------------------------------------

    def _enter(self) -> None:
        """Make sure that this client can be used here. Raises `ClientClosed` and `WrongLoop`."""
        self._refuse_closed()
        if not self._place.is_here():
            self._move()

    def _move(self) -> None:
        """Begin anew on this loop, if the one before is closed or nothing is open there. Raises `WrongLoop`."""
        with self._guard:
            if self._place.is_here():
                return  # another task was faster
            in_use = self._store is not None or self._opening.locked() or self._waiter.busy
            if in_use and not self._place.is_over():
                raise WrongLoop(
                    "this Client is in use on another event loop: make one Client for each loop, close it on"
                    " its own loop first, or use Client, which all threads of a process can share"
                )
            left = self._store
            self._begin(Place.here())
        if left is not None:
            left.abandon()  # the loop that could have closed it has gone

    def _forked(self) -> None:
        """Begin anew in a child process. What is open is the parent's: nothing of it is closed, or said."""
        self._guard = threading.Lock()  # a thread that is not here may have held the old one
        self._left = self._store or self._left
        self._begin(Place())

    # -- open and close -----------------------------------------------------------------------------

    def _open(self) -> JobStore:
        self._enter()
        if self._store is not None:
            return self._store
        with self._opening:
            self._refuse_closed()
            if self._store is None:
                store = self._connect()
                try:
                    store.open()
                except BaseException:
                    store.close()
                    raise
                self._gatherer = Gatherer(
                    store, batch_max=self._settings.gather_max, waiting_max=self._settings.enqueues_waiting_max
                )
                self._store = store
            return self._store

    def close(self) -> None:
        """Give back all connections; who waits for a result gets `ClientClosed`. May be called twice.

        An async client raises `WrongLoop` on another loop than the one that it is open on, and stays open then.
        """
        if not self._closed:
            self._enter()
        self._closed = True
        self._waiter.fail(_closed())
        with self._opening:
            store, self._store = self._store, None
            gatherer, self._gatherer = self._gatherer, None
        try:
            if gatherer is not None:
                gatherer.close(_CLOSE_S)
        finally:
            if store is not None:
                store.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise _closed()

    def __enter__(self) -> Self:
        self._refuse_closed()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _closed() -> ClientClosed:
    return ClientClosed("this client was closed; make a new one")


def _in_child() -> None:
    for life in list(_lives):
        life._forked()


os.register_at_fork(after_in_child=_in_child)
