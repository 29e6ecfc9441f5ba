"""How many connections a store has: for metrics, and for tests of their bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

BESIDE_MAX: Final = 16
"""Connections outside the pool at a time: the one that listens, its self-test, upkeep of partitions, migrations."""


class Connections(msgspec.Struct, frozen=True, kw_only=True):
    """The connections of one store object, now and since its start."""

    open: int
    """Open now, in the pool and beside it."""
    in_use: int
    beside: int
    """Open now outside the pool; at most `BESIDE_MAX`."""
    waiting: int
    """Requests that wait for a connection of the pool."""
    max: int
    """The most that can be open."""
    opened: int
    """Opened since the start."""
    failed: int
    """Attempts of the pool to open one that failed."""
    lost: int
    """Found broken, or taken for it because another one was, since the start."""


def counted(pool: Mapping[str, int], *, pool_max: int, beside: int, opened_beside: int, lost: int) -> Connections:
    """Put together what the pool counts itself (``get_stats``: what is 0 may be missing) and what is beside it."""
    size = pool.get("pool_size", 0)
    return Connections(
        open=size + beside,
        in_use=size - pool.get("pool_available", 0) + beside,
        beside=beside,
        waiting=pool.get("requests_waiting", 0),
        max=pool_max + BESIDE_MAX,
        opened=pool.get("connections_num", 0) + opened_beside,
        failed=pool.get("connections_errors", 0),
        lost=lost,
    )
