"""graphile-worker's SQL interface, called through asyncpg; its worker is `node/graphile.mjs`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from bench.sides import verbs
from bench.sides.pooled import Pooled

ADD_ONE = "SELECT id FROM graphile_worker.add_job('noop', $1::json)"
ADD_MANY = """
SELECT id FROM graphile_worker.add_jobs(ARRAY(
    SELECT ('noop', payload, NULL, now(), 25, NULL, NULL, NULL)::graphile_worker.job_spec
    FROM unnest($1::json[]) AS payload))
"""
INSTALL_S = 60.0


class GraphileSide(Pooled):
    """See `bench.sides.verbs.Side`."""

    takes_any_number = False

    async def install(self, url: str) -> None:
        """Run its migrations."""
        script = Path(os.environ["GRAPHILE_FOLDER"]) / "graphile.mjs"
        subprocess.run(["node", script, "migrate", url], check=True, stdout=subprocess.DEVNULL, timeout=INSTALL_S)  # noqa: ASYNC221  nothing else runs

    async def enqueue_one(self, i: int) -> None:
        """One job, one call."""
        await self.pool.fetchval(ADD_ONE, verbs.text_of(i))

    async def enqueue_many(self, numbers: range) -> None:
        """One call for all."""
        await self.pool.fetch(ADD_MANY, [verbs.text_of(i) for i in numbers])


if __name__ == "__main__":
    verbs.main(GraphileSide())
