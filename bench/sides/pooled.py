"""What sides that submit by asyncpg have in common: a pool of one connection a caller."""

from __future__ import annotations

import asyncpg


class Pooled:
    """The part of a `bench.sides.verbs.Side` that connects and disconnects."""

    pool: asyncpg.Pool

    async def open(self, url: str, callers: int) -> None:
        """Connect."""
        self.pool = await asyncpg.create_pool(url, min_size=callers, max_size=callers, reset=_keep)

    async def close(self) -> None:
        """Disconnect."""
        await self.pool.close()


async def _keep(connection: object) -> None:
    """Give a connection back to its pool as it is: asyncpg's own reset costs a trip."""
