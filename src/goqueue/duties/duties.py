"""`Duties`: all the upkeep of one process. Workers and servers run it; for each duty only the elected one acts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from goqueue.duties.history import History
from goqueue.duties.leader import Leader
from goqueue.duties.loop import Loop
from goqueue.duties.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from goqueue.settings import DutySettings
    from goqueue.store.port import AdminStore

SWEEP: Final = "sweep"
HISTORY: Final = "history"
HISTORY_TERMS: Final = 4
"""How much longer a term of the history's upkeep is: it is done every ten minutes, and nobody waits for it."""


class Duties:
    """Starts and stops the elections and every duty. The store must be open, and stay open until `stop` has returned.

    Each duty has an election of its own: any worker may sweep, but only the owner of a schema can make partitions.
    """

    def __init__(self, store: AdminStore, settings: DutySettings, *, holder: str = "") -> None:
        holder = holder or str(uuid4())
        ttl_s = settings.leader_ttl_s
        sweeps = Leader(store, name=SWEEP, holder=holder, ttl_s=ttl_s)
        keeps_history = Leader(store, name=HISTORY, holder=holder, ttl_s=ttl_s * HISTORY_TERMS)
        self._leaders = (sweeps, keeps_history)
        self._loops = (
            Loop("sweep", settings.sweep_s, _led(sweeps, Sweep(store, settings, sweeps))),
            Loop("history", settings.history_s, _led(keeps_history, History(store, settings, keeps_history))),
        )

    @property
    def leads(self) -> tuple[str, ...]:
        """Name the duties that this process does now."""
        return tuple(leader.name for leader in self._leaders if leader.is_leader)

    def start(self) -> None:
        """Begin. Does nothing while they run."""
        for leader in self._leaders:
            leader.start()
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        """End all, and resign. Idempotent; also before `start`, and `start` works again afterwards."""
        for loop in self._loops:
            await loop.stop()
        for leader in self._leaders:
            await leader.stop()


def _led(leader: Leader, duty: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def tick() -> None:
        await leader.until_elected()
        await duty()

    return tick
