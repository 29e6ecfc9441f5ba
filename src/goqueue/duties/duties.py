"""`Duties`: all the upkeep of one process. Workers and servers run it; only the leader among them acts."""

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

ELECTION: Final = "duties"


class Duties:
    """Starts and stops the election and every duty. The store must be open, and stay open until `stop` has returned."""

    def __init__(self, store: AdminStore, settings: DutySettings, *, holder: str = "") -> None:
        self._leader = Leader(store, name=ELECTION, holder=holder or str(uuid4()), ttl_s=settings.leader_ttl_s)
        self._loops = (
            Loop("sweep", settings.sweep_s, self._led(Sweep(store, settings))),
            Loop("history", settings.history_s, self._led(History(store, settings))),
        )

    @property
    def is_leader(self) -> bool:
        """Whether this process does the upkeep now."""
        return self._leader.is_leader

    def start(self) -> None:
        """Begin. Does nothing while they run."""
        self._leader.start()
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        """End all, and resign. Idempotent; also before `start`, and `start` works again afterwards."""
        for loop in self._loops:
            await loop.stop()
        await self._leader.stop()

    def _led(self, duty: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def tick() -> None:
            await self._leader.elected.wait()
            if self._leader.is_leader:
                await duty()

        return tick
