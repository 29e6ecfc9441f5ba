"""Async handlers on the worker's own event loop: one task for each attempt."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextvars import Context

if sys.version_info >= (3, 12):

    def start(
        loop: asyncio.AbstractEventLoop, work: Coroutine[object, object, None], context: Context
    ) -> asyncio.Task[None]:
        """Run ``work`` as a task of its own in ``context``, at once up to where it first waits."""
        return asyncio.Task(work, loop=loop, eager_start=True, context=context)

else:

    def start(
        loop: asyncio.AbstractEventLoop, work: Coroutine[object, object, None], context: Context
    ) -> asyncio.Task[None]:
        """Run ``work`` as a task of its own in ``context``, from the loop's next turn on."""
        return asyncio.Task(work, loop=loop, context=context)
