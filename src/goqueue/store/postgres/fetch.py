"""Claims over lanes: which to ask for comes from the lane book, which is fed by claims and by scans beside them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from goqueue.model.errors import GoQueueError
from goqueue.model.lease import Claimed, Want
from goqueue.store.postgres.lanes import Lane, LaneBook, Mark
from goqueue.store.postgres.rows import utc
from goqueue.store.postgres.statement import Plan, Statement
from goqueue.store.postgres.verbs import work

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from goqueue.model.outcome import Settlement
    from goqueue.settings import StoreSettings
    from goqueue.store.postgres._async.database import AsyncDatabase

SCAN_CHEAP_S: Final = 0.02
"""A scan that costs less may follow another at once."""
SCAN_BESIDE_S: Final = 0.1
"""At least this long between two scans beside claims that still find jobs."""
SCAN_LATER_S: Final = 0.001
"""A scan beside claims lets what has just been claimed start first."""
SCAN_SHARE: Final = 10
"""A scan rests for this many times what it cost."""

_NOTHING: Final = Want(worker_id="", queues=(), total=0)


class _Book:
    """The lane book of one (tenant, queues) and when to scan for it."""

    def __init__(self, lanes_max: int) -> None:
        self.lanes = LaneBook(lanes_max=lanes_max)
        self.scanned_s = -1e9
        self.scan_cost_s = 0.0
        self.scan: asyncio.Task[None] | None = None
        self.woken = False


class LaneFetch:
    """Claims and settles of one store object."""

    def __init__(self, database: AsyncDatabase, settings: StoreSettings) -> None:
        self._database = database
        self._settings = settings
        self._books: dict[tuple[str, tuple[str, ...]], _Book] = {}

    async def settle(self, outcomes: Sequence[Settlement], now: datetime | None) -> Claimed:
        """Settle without claiming. Raises the driver's own errors for what one outcome is to blame for."""
        picked = await self._database.run(work.claim(_NOTHING, (), outcomes, self._settings, now), translated=False)
        return picked.claimed

    async def claim(self, want: Want, outcomes: Sequence[Settlement], now: datetime | None) -> Claimed:
        """Settle and claim. When the book knows too few lanes, a scan comes first, or goes beside."""
        book = self._book(want)
        lanes = book.lanes.wanted(want.queues, time.monotonic())
        claimed = await self._claim(book, want, lanes, outcomes, now) if lanes or outcomes else Claimed((), ())
        since_scan_s = time.monotonic() - book.scanned_s
        if not claimed.leases and self._may_scan(book):
            # Nothing where there used to be jobs: look everywhere before saying that there is nothing.
            if await self._scan(book, want, now):
                lanes = book.lanes.wanted(want.queues, time.monotonic())
                again = await self._claim(book, want, lanes, (), now)
                return Claimed(claimed.settled, again.leases)
        elif since_scan_s > self._settings.scan_max_s or (
            (book.woken or len(claimed.leases) < want.total) and since_scan_s > SCAN_BESIDE_S and self._may_scan(book)
        ):
            self._scan_beside(book, want, now)
        return claimed

    async def _claim(
        self,
        book: _Book,
        want: Want,
        lanes: list[tuple[Lane, Mark]],
        outcomes: Sequence[Settlement],
        now: datetime | None,
    ) -> Claimed:
        started_s = time.perf_counter()
        picked = await self._database.run(work.claim(want, lanes, outcomes, self._settings, now), translated=False)
        took_s = time.perf_counter() - started_s
        count = len(picked.claimed.leases)
        asked = [lane for lane, _ in lanes]
        book.lanes.claimed(
            asked, picked.last, full=count >= want.total, took_s=took_s, jobs=count, now_s=time.monotonic()
        )
        return picked.claimed

    def woken(self, queue: str) -> None:
        """Note a wake-up: the next claim looks for new lanes, too, even if those that are known keep it busy.

        "" means that the connection is a new one: what the marks say may be of another server.
        """
        for (_, queues), book in self._books.items():
            if not queue or queue in queues:
                book.woken = True
            if not queue:
                book.lanes.reset()

    async def close(self) -> None:
        """End scans that are under way."""
        for book in self._books.values():
            if book.scan is not None:
                book.scan.cancel()
                await asyncio.gather(book.scan, return_exceptions=True)

    def _book(self, want: Want) -> _Book:
        key = (want.tenant, want.queues)
        book = self._books.get(key)
        if book is None:
            if len(self._books) >= 1_000:
                self._books.clear()
            book = self._books[key] = _Book(self._settings.lanes_max)
        return book

    def _may_scan(self, book: _Book) -> bool:
        """Scans that cost much (they walk dead entries, too) rest in proportion; cheap ones need no rest."""
        if book.scan_cost_s < SCAN_CHEAP_S:
            return True
        return time.monotonic() - book.scanned_s >= min(SCAN_SHARE * book.scan_cost_s, self._settings.scan_max_s)

    def _scan_beside(self, book: _Book, want: Want, now: datetime | None) -> None:
        if book.scan is None or book.scan.done():
            book.scan = asyncio.create_task(self._scan_quietly(book, want, now), name="goqueue-scan")

    async def _scan_quietly(self, book: _Book, want: Want, now: datetime | None) -> None:
        await asyncio.sleep(SCAN_LATER_S)
        try:
            await self._scan(book, want, now)
        except GoQueueError:
            return  # the next claim meets the same trouble and reports it

    async def _scan(self, book: _Book, want: Want, now: datetime | None) -> bool:
        """Find the live lanes; tell whether there are any."""
        started_s = time.monotonic()
        book.scanned_s = started_s
        book.woken = False
        found = await self._database.run(_lanes(want, self._settings.lanes_max, now))
        book.scan_cost_s = time.monotonic() - started_s
        book.lanes.scanned(found)
        return bool(found)


def _lanes(want: Want, lanes_max: int, now: datetime | None) -> Plan[dict[Lane, Mark]]:
    rows = yield Statement("lanes", (now, want.tenant, list(want.queues), lanes_max), one_plan=True)
    return {Lane(queue, priority, group): Mark(utc(run_at), id) for queue, priority, group, run_at, id in rows}
