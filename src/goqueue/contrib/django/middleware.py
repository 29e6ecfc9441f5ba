"""`CloseConnections`: what Django does with database connections around a request, done around a job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from asgiref.sync import SyncToAsync
from django.db import close_old_connections, reset_queries

from goqueue.tasks.middleware import Middleware

if TYPE_CHECKING:
    from collections.abc import Generator

    from goqueue.tasks.context import Context


class CloseConnections(Middleware):
    """Closes connections that are broken or older than CONN_MAX_AGE, before and after each job, where it used them.

    Workers that are started by `manage.py goqueue_worker` have it already.
    """

    def __init__(self) -> None:
        self._inside = 0
        """Async handlers that run now. Only the loop's thread counts."""

    def run(self, ctx: Context[Any]) -> Generator[None, object, None]:  # noqa: ARG002  it is the same for all
        """Go around one attempt."""
        if asyncio._get_running_loop() is None:  # a plain handler: its connections belong to this thread
            _close_here()
            try:
                yield
            finally:
                _close_here()
            return
        self._enter_async()
        try:
            yield
        finally:
            self._leave_async()

    # Django has one thread for the database calls of all async handlers, with connections that they share: a cursor of
    # one of them may be open while another ends. So they are closed when nobody is inside.

    def _enter_async(self) -> None:
        if self._inside == 0:
            SyncToAsync.single_thread_executor.submit(_close_here)
        self._inside += 1

    def _leave_async(self) -> None:
        self._inside -= 1
        if self._inside == 0:
            SyncToAsync.single_thread_executor.submit(_close_here)


def _close_here() -> None:
    reset_queries()
    close_old_connections()
