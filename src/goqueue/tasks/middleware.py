"""`Middleware`: what an application does around every run and every enqueue. Generators, so that one serves all.

A generator's code before its ``yield`` runs before, the code after it runs after. Nothing in it is awaited: the same
class goes around async and plain handlers, and around both clients. `goqueue.tasks.onion` pumps them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

    from goqueue.model.job import NewJob
    from goqueue.model.query import Enqueued
    from goqueue.tasks.context import Context


class Middleware:
    """Override one method or both, and give an instance to ``GoQueue(middleware=[...])``; the first is outermost.

    One instance serves all jobs of a process, many of them at the same time: what belongs to one job is kept in the
    generator's own variables, or in context variables.
    """

    def run(self, ctx: Context[Any]) -> Generator[None, object, None]:  # noqa: ARG002  for those that override it
        """Go around one attempt: ``result = yield`` is where the handler runs, in its own task, thread or process.

        What the handler raises is raised at the ``yield``: also `JobSignal` (retry, snooze, cancel, dead on purpose),
        arguments that cannot be decoded, and ``asyncio.CancelledError`` where the engine interrupts an async handler
        (its time is over, its job is cancelled, its worker stops). A plain handler that does not heed its stop, and a
        process that dies, raise nothing here: the engine decides those attempts without it. Let an error pass, or
        raise another in its place; caught and not raised again, the attempt has succeeded, with no result.

        Context variables that are set before the ``yield`` are seen by the handler, unless that is a batched one: it
        works on many jobs, each with a generator and context variables of its own. An error of the middleware itself
        is the attempt's.
        """
        yield

    def enqueue(self, job: NewJob[Any]) -> Generator[NewJob[Any], Enqueued, None]:
        """Go around one enqueue: ``answer = yield job`` is where it is stored, perhaps changed by ``job.options(...)``.

        What the enqueue raises is raised at the ``yield``; another may be raised in its place, but it cannot be made
        undone: caught and not raised again, it is raised all the same. With ``conn=`` the answer comes before the
        caller's commit. A job of an ``enqueue_many`` that is not sent after all has its generator closed.
        """
        yield job
