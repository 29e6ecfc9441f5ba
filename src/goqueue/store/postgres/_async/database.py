"""Connections to PostgreSQL and the loop that pumps plans over them. Every wait has a deadline."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import uuid4
from weakref import WeakSet

from psycopg import AsyncConnection, AsyncRawCursor, IsolationLevel, OperationalError, ProgrammingError
from psycopg import errors as pg
from psycopg_pool import PoolTimeout

from goqueue.model.errors import GoQueueError, StoreUnavailable
from goqueue.store.postgres.adapters import adapters
from goqueue.store.postgres.attempts import Attempts
from goqueue.store.postgres.connections import BESIDE_MAX, Connections, counted
from goqueue.store.postgres.errors import DriverError, is_bad_row, is_missing_partition, translate
from goqueue.store.postgres.pools import AsyncConnectionPool, note
from goqueue.store.postgres.sql import query
from goqueue.store.postgres.timers import async_after

if TYPE_CHECKING:
    from typing import Any, Self

    from psycopg.abc import PQGen
    from psycopg_pool import AsyncConnectionPool as Pool

    from goqueue.settings import StoreSettings
    from goqueue.store.postgres.statement import Plan, Rows, Statement

T = TypeVar("T")

GUARD: Final = (
    "SELECT pg_catalog.set_config('enable_seqscan', 'off', {local}),"
    " pg_catalog.set_config('lock_timeout', '{lock_ms}ms', {local}),"
    " pg_catalog.set_config('plan_cache_mode', '{plans}', {local})"
)
"""No sequential scans (see `Statement.indexed`), and an end to waits for locks. Local to the transaction while a pooler
may sit between, or for the session once that is known to be ours: a trip of one statement is a tenth of a millisecond
shorter than a pipeline of two. There each statement is planned once, not again for each set of parameters, which for a
claim takes longer than all the rest of it; those that need that (`Statement.one_plan`) go as behind a pooler."""
IF_OWN: Final = " WHERE pg_catalog.pg_backend_pid() = %d"
"""A pooler may pass notifications on, so that a listener hears itself; its sessions still belong to other processes
than the one that it names when we connect."""
LOCK_SHARE: Final = 0.8
"""A statement waits for locks for this part of its deadline: the server then says so, and the connection stays good. (A
deadline that passes costs all connections: nobody can tell a lock from a network that is gone.)"""
CONNECT_AGAIN_S: Final = 0.25
CONNECT_AGAIN_MAX_S: Final = 2.0
"""After a failed attempt to connect the next one starts within this time, while somebody waits for a connection."""
CANCEL_S: Final = 1.0
"""How long a server that did not answer has to take a cancel."""
_NEVER_BY_ITSELF: Final = 1 << 30
"""Statements are prepared when they ask for it. (None would mean that they never are, even if they do.)"""
ONE_SNAPSHOT: Final = b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
NOTIFY: Final = b"SELECT pg_catalog.pg_notify('goqueue', $1::text)"


class AsyncDeadlineConnection(AsyncConnection["tuple[Any, ...]"]):
    """A connection that gives up on a server that does not answer, tells it so, and is then closed."""

    deadline_s: float = 15.0
    generation: int = 0
    guarded: bool | None = None
    """Whether the session itself has the settings of `AsyncDatabase`, so that its statements need not bring them. None:
    not tried yet."""

    @classmethod
    async def connect(cls, conninfo: str = "", *, attempts: Attempts | None = None, **kwargs: Any) -> Self:  # type: ignore[override]  # one keyword more
        """Connect as the driver does, and note in ``attempts`` how that went: the pool tells nobody."""
        try:
            connection = await super().connect(conninfo, **kwargs)
        except DriverError as e:
            if attempts is not None:
                attempts.missed(e)
            raise
        note(connection)
        if attempts is not None:
            attempts.made()
        return connection

    async def wait(
        self,
        gen: PQGen[T],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109  the driver's signature
    ) -> T:
        """Wait as the driver does, but no longer than the deadline."""
        if timeout is not None:  # nothing but the socket ends it earlier: no need to look now and then
            return await super().wait(gen, timeout or interval, timeout)
        try:
            return await super().wait(gen, interval, self.deadline_s)
        except pg._WaitTimeout:
            # A server that waits for a lock does not look at its socket: without a cancel it would go on waiting, hold
            # a backend, and perhaps write after its caller was told that it had not answered.
            with suppress(*DriverError):
                await self.cancel_safe(timeout=CANCEL_S)
            self.pgconn.finish()
            raise OperationalError(f"no answer within {self.deadline_s:g} s") from None


class AsyncDatabase:
    """A bounded pool of connections, and plans run on them."""

    def __init__(self, url: str, settings: StoreSettings) -> None:
        self._settings = settings
        self.prepare = False
        """Whether to prepare statements: only once `hears_itself` has shown that sessions are our own. A pooler that
        shares them would have our names mean other programs' statements."""
        self.explicit = False
        """Whether each statement needs a transaction that says READ COMMITTED: the database's default is another."""
        lock_ms = max(1, round(settings.statement_timeout_s * LOCK_SHARE * 1000))
        self._local = GUARD.format(local="true", lock_ms=lock_ms, plans="auto").encode()
        self._lasting = (GUARD.format(local="false", lock_ms=lock_ms, plans="force_generic_plan") + IF_OWN).encode()
        self._generation = 0
        self._refused = 0
        """Attempts to connect that have failed since the last that did not."""
        self._pooled: WeakSet[AsyncDeadlineConnection] = WeakSet()
        self._beside: WeakSet[AsyncDeadlineConnection] = WeakSet()
        self._opened_beside = 0
        self.lost = 0
        """Connections that were found broken; counted by whoever finds it."""
        self._pool: AsyncConnectionPool[AsyncDeadlineConnection] | None = None
        self.url = url
        self._attempts = Attempts(url)
        self.kwargs: dict[str, Any] = {  # Any: libpq's parameters
            "autocommit": True,
            "prepare_threshold": _NEVER_BY_ITSELF,
            "connect_timeout": max(2, round(settings.connect_timeout_s)),
            "application_name": "goqueue",
            "client_encoding": "UTF8",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "context": adapters(),
            "cursor_factory": AsyncRawCursor,
            "attempts": self._attempts,
        }

    async def connect(self) -> AsyncDeadlineConnection:
        """Open one connection outside the pool; its caller closes it. There are at most `BESIDE_MAX` at a time.

        Raises what `Attempts.explain` makes of a failure.
        """
        if self._open_beside() >= BESIDE_MAX:
            raise StoreUnavailable(f"{BESIDE_MAX} connections are open outside the pool: upkeep piles up, try again")
        try:
            connection = await AsyncDeadlineConnection.connect(self.url, **self.kwargs)
        except ProgrammingError as e:
            raise self._attempts.explain(e) from None  # it may quote a password
        except DriverError as e:
            raise self._attempts.explain(e) from e
        connection.deadline_s = self._settings.statement_timeout_s
        self._beside.add(connection)
        self._opened_beside += 1
        return connection

    @property
    def connections(self) -> Connections:
        """Count the connections."""
        return counted(
            {} if self._pool is None else self._pool.get_stats(),
            pool_max=self._settings.pool_max,
            beside=self._open_beside(),
            opened_beside=self._opened_beside,
            lost=self.lost,
        )

    def _open_beside(self) -> int:
        return sum(not connection.closed for connection in list(self._beside))

    async def open(self) -> None:
        """Open the pool; connections are made when needed. Idempotent.

        Raises `ConfigurationError` for a URL with which none can be made.
        """
        if self._pool is not None:
            return
        self._attempts.check()
        deadline_s = self._settings.statement_timeout_s

        async def configure(connection: AsyncDeadlineConnection) -> None:
            self._refused = 0
            self._pooled.add(connection)
            connection.deadline_s = deadline_s
            connection.generation = self._generation
            await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)

        async def try_again(pool: Pool[Any]) -> None:  # Any: whatever it holds
            # The pool has given up, but does not tell those who wait: they would wait in vain until their deadline.
            bound_s = min(CONNECT_AGAIN_MAX_S, CONNECT_AGAIN_S * 2.0 ** min(self._refused, 16))
            self._refused += 1
            if pool.get_stats().get("requests_waiting"):
                async_after(random.uniform(0, bound_s), pool.check)  # noqa: S311

        self._pool = AsyncConnectionPool(
            self.url,
            connection_class=AsyncDeadlineConnection,
            min_size=0,
            max_size=self._settings.pool_max,
            max_waiting=10_000,
            timeout=self._settings.connect_timeout_s,
            # No series of attempts of the pool's own, whose pauses grow: nobody may wait long after a recovery.
            reconnect_timeout=0.0,
            reconnect_failed=try_again,
            kwargs=self.kwargs,
            configure=configure,
            open=False,
        )
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        if self._pool is not None:
            await self._pool.close(timeout=2.0)

    def abandon(self) -> None:
        """Close all connections from here, without the loop or the threads that use them."""
        for connection in [*self._pooled, *self._beside]:
            connection.pgconn.finish()

    async def run(self, plan: Plan[T], *, atomic: bool = False, snapshot: bool = False, translated: bool = True) -> T:
        """Run a plan on a connection of the pool: each statement by itself, or ``atomic``: all in one transaction.

        ``snapshot``: all statements read one and the same snapshot, and write nothing.

        Raises `StoreUnavailable` and the other errors of `goqueue.store.postgres.errors.translate`, and when no
        connection could be made what `Attempts.explain` says; without ``translated`` the driver's own where one item of
        a batch is to blame.
        """
        if self._pool is None:
            await self.open()
        assert self._pool is not None
        try:
            while True:
                async with self._pool.connection() as connection:
                    if connection.generation == self._generation:
                        return await self._run_on(connection, plan, atomic=atomic, snapshot=snapshot)
                    # What broke one connection broke, most likely, all that are as old. To ask each would take a
                    # deadline each; the pool replaces what is closed.
                    self.lost += 1
                    await connection.close()
        except DriverError as e:
            if isinstance(e, pg.InvalidSqlStatementName | pg.DuplicatePreparedStatement):
                self.prepare = False
            if isinstance(e, PoolTimeout):
                cause = self._attempts.failure(self._settings.connect_timeout_s + CONNECT_AGAIN_MAX_S)
                if cause is not None:
                    raise self._attempts.explain(cause) from None
            if not translated and (is_bad_row(e) or is_missing_partition(e)):
                raise
            raise translate(e) from e

    async def _run_on(self, connection: AsyncDeadlineConnection, plan: Plan[T], *, atomic: bool, snapshot: bool) -> T:
        try:
            if not (atomic or snapshot):
                return await self._pump(plan, connection, transaction=False)
            async with connection.transaction():
                if snapshot:
                    await connection.execute(ONE_SNAPSHOT)
                await connection.execute(self._local)
                return await self._pump(plan, connection, transaction=True)
        finally:
            if connection.closed:
                self.lost += 1
                if connection.generation == self._generation:
                    self._generation += 1

    async def _pump(self, plan: Plan[T], connection: AsyncDeadlineConnection, *, transaction: bool) -> T:
        try:
            statement = next(plan)
            while True:
                try:
                    rows = await self._execute(statement, connection, transaction=transaction)
                except DriverError as e:
                    if isinstance(e, pg.LockNotAvailable) and not (statement.indexed or transaction):
                        # A plain enqueue waits for no key: somebody has locked the table. As good as a server away.
                        raise StoreUnavailable(f"no answer within {connection.deadline_s:g} s: {e}") from e
                    statement = plan.throw(e)
                else:
                    statement = plan.send(rows)
        except StopIteration as stop:
            answer: T = stop.value
            return answer

    async def _execute(self, statement: Statement, connection: AsyncDeadlineConnection, *, transaction: bool) -> Rows:
        sql = query(statement.name)
        if self.prepare and not transaction and connection.guarded is None:
            cursor = await connection.execute(self._lasting % connection.pgconn.backend_pid)
            connection.guarded = cursor.rowcount > 0
        guarded = connection.guarded and self.prepare and statement.one_plan
        if self.explicit and not transaction:
            async with connection.transaction():
                await connection.execute(self._local)
                cursor = await connection.execute(sql, statement.params, prepare=self.prepare, binary=True)
                for topic in statement.wake:
                    await connection.execute(NOTIFY, (topic,), prepare=self.prepare)
        elif transaction or not (statement.wake or (statement.indexed and not guarded)):
            cursor = await connection.execute(sql, statement.params, prepare=self.prepare, binary=True)
        else:
            # One trip, one implicit transaction.
            async with connection.pipeline():
                if statement.indexed and not guarded:
                    await connection.execute(self._local)
                cursor = await connection.execute(sql, statement.params, prepare=self.prepare, binary=True)
                for topic in statement.wake:
                    await connection.execute(NOTIFY, (topic,), prepare=self.prepare)
        return await cursor.fetchall() if cursor.rownumber is not None else ()  # None: no rows to fetch, not even none

    async def learn(self, timeout_s: float) -> None:
        """Find out whether statements can be prepared. A failure means: not now."""
        with suppress(*DriverError, GoQueueError):
            listener = await self.connect()
            try:
                await self.hears_itself(listener, timeout_s)
            finally:
                await listener.close()

    async def hears_itself(self, listener: AsyncDeadlineConnection, timeout_s: float) -> bool:
        """Tell whether ``listener`` hears what another connection notifies.

        Behind a transaction pooler it does not: there a session is not ours between two transactions. From then on, or
        not, statements are prepared.

        The channel is the test's own. Behind a pooler the LISTEN stays on a session of the server that others get next,
        and they would be sent every wake-up, to keep for nobody.
        """
        channel = f"goqueue_test_{uuid4().hex}"
        await listener.execute(f"LISTEN {channel}".encode())
        sender = await self.connect()
        try:
            await sender.execute(b"SELECT pg_catalog.pg_notify($1::text, '')", (channel,))
        finally:
            await sender.close()
        heard = False
        async for _ in listener.notifies(timeout=timeout_s, stop_after=1):
            heard = True
        await listener.execute(f"UNLISTEN {channel}".encode())
        self.prepare = heard
        return heard
