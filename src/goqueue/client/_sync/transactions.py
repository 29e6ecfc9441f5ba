# Generated from src/goqueue/client/_async/transactions.py by scripts/unasync.py: change that and run `make generate`.
"""Enqueue inside a transaction of the caller's own: what only some stores have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from goqueue.model.job import NewJob
    from goqueue.model.query import Enqueued


class Transactions(Protocol):
    """A store's ability to enqueue on a connection that belongs to the caller."""

    def enqueue(self, conn: object, jobs: Sequence[NewJob[object]]) -> list[Enqueued]:
        """Store prepared jobs in the transaction that ``conn`` is in, at most `limits.BATCH_MAX`; answers in order.

        They exist when the caller commits. Never commits, rolls back or sends anything again by itself. Raises
        `InvalidInput` for a connection of a kind that it does not know.
        """
        ...
