"""Jobs that are stored by one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from goqueue.model.job import NewJob

R = TypeVar("R")

PIECE: Final = 100
"""So many jobs are prepared at a time, then others have their turn: a statement that is being sent must be fed, too."""


class Batch(NamedTuple, Generic[R]):
    """Jobs as they were given, and the same as a store takes them."""

    given: list[NewJob[R]]
    ready: list[NewJob[R]]
