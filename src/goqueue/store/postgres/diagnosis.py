"""`goqueue doctor`'s look at a database: each question by itself, within a deadline; one that fails is a finding, too.

What is asked is in ``queries/doctor_*.sql``, what an answer means in ``verbs/diagnose.py`` and ``diagnose_own.py``. All
is read-only. A role with the reader's or worker's grants gets answers to all of it; only other roles' sessions are
half hidden without ``pg_read_all_stats``.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final, TypeVar

from goqueue.model.admin import Level
from goqueue.model.errors import GoQueueError, StoreUnavailable
from goqueue.model.outcome import UNKNOWN_KIND
from goqueue.store.postgres import migrate, partitions
from goqueue.store.postgres.errors import DriverError, is_statement_pooling, translate
from goqueue.store.postgres.sql import query
from goqueue.store.postgres.verbs import diagnose as verbs
from goqueue.store.postgres.verbs import diagnose_own as own
from goqueue.store.postgres.verbs.diagnose import Limits, finding

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from goqueue.model.admin import Finding
    from goqueue.settings import StoreSettings
    from goqueue.store.postgres._async.database import AsyncDatabase, AsyncDeadlineConnection
    from goqueue.store.postgres.statement import Rows

T = TypeVar("T")

LOOK_S: Final = 5.0
"""For one look; the server is told, too, so that a look that takes longer costs only itself."""
LOCK_S: Final = 1.0
CLOCK_LOOKS: Final = 3
"""Round trips, of which the fastest tells most about the clocks."""
_BOUNDS: Final = (
    b"SELECT pg_catalog.set_config('statement_timeout', $1::text, true), "
    b"pg_catalog.set_config('lock_timeout', $2::text, true), "
    b"pg_catalog.set_config('transaction_read_only', 'on', true), pg_catalog.set_config('enable_seqscan', 'off', true)"
)


async def diagnose(
    database: AsyncDatabase,
    settings: StoreSettings,
    now: datetime | None = None,
    *,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.time,
) -> list[Finding]:
    """Look at everything there is to look at. Raises `StoreUnavailable` when there is no connection at all."""
    looks = _Looks(database, settings, now, limits or Limits(), clock)
    try:
        return await looks.all()
    finally:
        await looks.close()


class _Looks:
    """One examination: a connection of its own, replaced when a look has broken it."""

    def __init__(
        self,
        database: AsyncDatabase,
        settings: StoreSettings,
        now: datetime | None,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._settings = settings
        self._now = now
        self._limits = limits
        self._clock = clock
        self._connection: AsyncDeadlineConnection | None = None

    async def all(self) -> list[Finding]:
        """Ask one after the other: a server in trouble is not asked many things at once."""
        await self._connected()
        findings, statement_pooling = await self._pooler()
        if statement_pooling:
            return findings  # nothing else could be asked
        findings += await self._look("server_version", self._server)
        findings += await self._look("clock", self._clocks)
        findings += await self._look("durability", self._durability)
        findings += await self._look("connections", self._connections)
        findings += await self._look("oldest_snapshot", self._snapshots)
        schema = await self._look("schema_version", self._schema)
        findings += schema
        if "no GoQueue schema" in schema[0].text:
            return findings
        if schema[0].level is Level.OK:  # else the tables are those of another version
            findings += await self._look("indexes", self._structure)
            findings += await self._look("unserved_queues", self._queues)
            findings += await self._look("unknown_kinds", self._kinds)
        findings += await self._look("dead_tuples", self._tables)
        findings += await self._look("partitions", self._partitions)
        findings += await self._look("locks", self._locks)
        findings += await self._look("workers", self._workers)
        findings += await self._look("overdue", self._jobs)
        return findings

    async def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            await self._connection.close()

    async def _connected(self) -> AsyncDeadlineConnection:
        if self._connection is None or self._connection.closed:
            self._connection = await self._database.connect()
            self._connection.deadline_s = min(2 * LOOK_S, self._settings.statement_timeout_s)
        return self._connection

    async def _look(self, check: str, look: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
        try:
            return await look()
        except (*DriverError, GoQueueError) as e:
            reason = e if isinstance(e, GoQueueError) else translate(e)
            # A pooler may keep a session with a transaction that broke: the next look begins with a new one.
            await self.close()
            return [
                finding(check, Level.WARNING, f"could not be looked at: {reason}", "see the reason, and look again")
            ]

    async def _rows(self, name: str, *params: object) -> Rows:
        async def ask(connection: AsyncDeadlineConnection) -> Rows:
            cursor = await connection.execute(query(name), params, prepare=False, binary=True)
            return await cursor.fetchall()

        return await self._bounded(ask)

    async def _bounded(self, ask: Callable[[AsyncDeadlineConnection], Awaitable[T]]) -> T:
        connection = await self._connected()
        async with connection.transaction():
            bounds = (f"{LOOK_S * 1000:.0f}ms", f"{LOCK_S * 1000:.0f}ms")
            await connection.execute(_BOUNDS, bounds, prepare=False)
            return await ask(connection)

    # -- the looks -------------------------------------------------------------------------------

    async def _pooler(self) -> tuple[list[Finding], bool]:
        """What sits between, found out as `hears_itself` does; and whether transactions are refused."""
        check = "pooler"
        listener: AsyncDeadlineConnection | None = None
        try:
            between = await self._bounded(_is_between)
            listener = await self._database.connect()
            heard = await self._database.hears_itself(listener, self._settings.self_test_s)
        except (*DriverError, GoQueueError) as e:
            await self.close()
            reason = e if isinstance(e, GoQueueError) else translate(e)
            if is_statement_pooling(e):
                text = (
                    "the pooler in front of PostgreSQL is in statement mode: there are no transactions, nothing works"
                )
                return [finding(check, Level.ERROR, text, "set its pool_mode to transaction or session")], True
            return [finding(check, Level.WARNING, f"could not be looked at: {reason}", "look again")], False
        finally:
            if listener is not None:
                with suppress(*DriverError):
                    await listener.close()
        if heard:
            text = "a pooler in session mode sits between" if between else "connections lead to PostgreSQL itself"
            return [finding(check, Level.OK, f"{text}: wake-ups arrive, statements are prepared")], False
        if between:
            text = "a pooler in transaction mode sits between: workers find new jobs by polling, nothing is prepared"
            do = "to be woken at once, give workers and servers a URL past the pooler, or a pool in session mode"
            return [finding(check, Level.WARNING, text, do)], False
        text = f"our own wake-up did not arrive within {self._settings.self_test_s:g} s, and no pooler is to be seen"
        do = "the server may be busy: look again, or raise store.self_test_s"
        return [finding(check, Level.WARNING, text, do)], False

    async def _server(self) -> list[Finding]:
        return verbs.server(await self._rows("doctor_server"))

    async def _clocks(self) -> list[Finding]:
        best: tuple[float, float] | None = None
        for _ in range(CLOCK_LOOKS):
            began, asked_s = self._clock(), time.perf_counter()
            rows = await self._rows("clock")
            took_s = time.perf_counter() - asked_s
            # Read somewhere in between: in the middle, give or take half of the trip.
            ahead_s = began + took_s / 2 - rows[0][0].timestamp()
            best = min(best or (took_s, ahead_s), (took_s, ahead_s))
        assert best is not None
        took_s, ahead_s = best
        where = "ahead of" if ahead_s > 0 else "behind"
        text = f"this machine's clock is {abs(ahead_s):.3f} s {where} the server's, ± {took_s / 2:.3f} s"
        if abs(ahead_s) - took_s / 2 <= self._limits.clock_s:
            return [finding("clock", Level.OK, text)]
        do = "set the clocks right (NTP), so that logs can be compared; no job is early or late because of it"
        return [finding("clock", Level.WARNING, text, do)]

    async def _durability(self) -> list[Finding]:
        return [verbs.durability(await self._rows("doctor_durability"))]

    async def _connections(self) -> list[Finding]:
        return [verbs.connections(await self._rows("doctor_connections"), self._limits)]

    async def _snapshots(self) -> list[Finding]:
        return [verbs.snapshots(await self._rows("doctor_snapshots", self._limits.rows), self._limits)]

    async def _schema(self) -> list[Finding]:
        try:
            return [own.schema_version(await self._bounded(migrate.status))]
        except GoQueueError as e:
            if isinstance(e, StoreUnavailable):
                raise
            return [finding("schema_version", Level.ERROR, str(e), "use the GoQueue that made this schema")]

    async def _structure(self) -> list[Finding]:
        return own.structure(await self._rows("doctor_structure", self._limits.rows), own.expected())

    async def _tables(self) -> list[Finding]:
        return verbs.tables(await self._rows("doctor_tables"), self._limits)

    async def _partitions(self) -> list[Finding]:
        now: datetime = self._now or (await self._rows("clock"))[0][0]
        rows = await self._rows("doctor_partitions")
        return [own.partitions(rows, partitions.needed(self._settings, now), now.astimezone(UTC).date())]

    async def _locks(self) -> list[Finding]:
        return [verbs.locks(await self._rows("doctor_locks", self._limits.rows), self._limits)]

    async def _workers(self) -> list[Finding]:
        rows = await self._rows("doctor_workers", self._now, 10 * self._limits.rows)
        return own.workers(rows, self._limits, _version())

    async def _jobs(self) -> list[Finding]:
        limits = self._limits
        rows = await self._rows("doctor_jobs", self._now, limits.timeout_times, limits.orphan_s, limits.rows)
        return own.jobs(rows, limits)

    async def _queues(self) -> list[Finding]:
        limits = self._limits
        rows = await self._rows("doctor_queues", self._now, limits.names, limits.rows, limits.lanes, limits.due)
        return own.queues(rows, limits)

    async def _kinds(self) -> list[Finding]:
        limits = self._limits
        params = (self._now, UNKNOWN_KIND, limits.names, limits.lanes, limits.around, limits.of_queue, limits.sample)
        return [own.kinds(await self._rows("doctor_kinds", *params))]


async def _is_between(connection: AsyncDeadlineConnection) -> bool:
    """Tell whether somebody else speaks to the server for us: a pooler makes up the number that names our session."""
    cursor = await connection.execute(b"SELECT pg_catalog.pg_backend_pid()", prepare=False)
    row: tuple[Any, ...] | None = await cursor.fetchone()
    return row is not None and row[0] != connection.info.backend_pid


def _version() -> str:
    try:
        return version("goqueue")
    except PackageNotFoundError:
        return ""
