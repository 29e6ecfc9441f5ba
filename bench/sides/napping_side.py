"""GoQueue with jobs that take a second and do nothing meanwhile, so that many run at the same time."""

from __future__ import annotations

import asyncio

from bench.sides import verbs
from bench.sides.goqueue_side import GoQueueSide
from bench.stamps import began
from goqueue import GoQueue, NewJob

NAP_S = 1.0
app = GoQueue()


@app.task
async def nap(i: int, body: str) -> None:  # noqa: ARG001  decoded and checked, as users have it
    """Note that it began, and stay a while."""
    began(i)
    await asyncio.sleep(NAP_S)


class NappingSide(GoQueueSide):
    """See `bench.sides.verbs.Side`."""

    def job(self, i: int) -> NewJob[None]:
        """Job ``i``."""
        return nap.job(i=i, body=verbs.Arguments.of(i).body)


if __name__ == "__main__":
    verbs.main(NappingSide())
