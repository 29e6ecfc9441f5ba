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

    def run(self, ctx: Context[Any]) -> Generator[None, object, None]:  # noqa: ARG002  it is the same for all
        """Go around one attempt."""
        _close()
        try:
            yield
        finally:
            _close()


def _close() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _close_here()  # a plain handler: its connections belong to this thread
    else:
        # An async one: Django has one thread for the database calls of all of them, which takes them in this order.
        SyncToAsync.single_thread_executor.submit(_close_here)


def _close_here() -> None:
    reset_queries()
    close_old_connections()
