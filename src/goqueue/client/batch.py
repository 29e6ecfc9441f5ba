"""Jobs that are stored by one statement, and what middleware goes around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

from goqueue.model.errors import Conflict
from goqueue.tasks.onion import Around
from goqueue.tasks.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.model.job import NewJob
    from goqueue.model.query import Enqueued
    from goqueue.tasks.onion import Layers

R = TypeVar("R")
Handle = TypeVar("Handle")

PIECE: Final = 100
"""So many jobs are prepared at a time, then others have their turn: a statement that is being sent must be fed, too."""


class Batch(Generic[R]):
    """Jobs as they were given (and changed by middleware), and the same as a store takes them.

    Middleware is run where the caller is, and not where the batch is sent from: its context variables are there.
    """

    __slots__ = ("_around", "_tenant", "answers", "given", "ready")

    def __init__(self, layers: Layers, tenant: str) -> None:
        self.given: list[NewJob[R]] = []
        self.ready: list[NewJob[R]] = []
        self.answers: Sequence[Enqueued] = ()
        self._tenant = tenant
        self._around = Around(layers) if layers else None

    def add(self, jobs: Sequence[NewJob[R]]) -> None:
        """Take and prepare jobs. Raises `InvalidJob`, and what a middleware raises."""
        if self._around is None:
            self.given += jobs
            self.ready += [prepare(job, self._tenant) for job in jobs]
            return
        try:
            for job in jobs:
                wanted = self._around.open(job)
                self.given.append(wanted)
                self.ready.append(prepare(wanted, self._tenant))
        except BaseException as error:
            self._around.fail(error)

    def end(self, handles: list[Handle | Conflict]) -> list[Handle | Conflict]:
        """Tell the middleware what came of the jobs; return the handles with the conflicts that it wants raised."""
        if self._around is None or not handles:
            return handles
        told = [
            handle if isinstance(handle, Conflict) else answer
            for handle, answer in zip(handles, self.answers, strict=True)
        ]
        return [conflict or handle for conflict, handle in zip(self._around.end(told), handles, strict=True)]

    def fail(self, error: BaseException) -> None:
        """Tell the middleware that nothing came of them. Raises what it raises in place of ``error``, or this."""
        if self._around is not None:
            self._around.fail(error)

    def close(self) -> None:
        """Nobody will send them any more, unless they were sent."""
        if self._around is not None:
            self._around.close()
