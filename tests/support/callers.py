"""Connections of every kind that callers bring, as one kind of object: ``conn`` and what its owner does with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar, TypeVar

import psycopg

from goqueue import AsyncClient, Client, Context
from goqueue.model.job import NewJob

T = TypeVar("T")


class Caller:
    """An application with a connection of its own. All that it does is awaited; sync kinds have a thread for it."""

    is_async: ClassVar[bool] = False
    explicit: ClassVar[bool] = True
    """Whether a transaction begins by itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.conn: Any = None
        self._thread = ThreadPoolExecutor(1)
        self._client = Client(url=url)
        self._async_client = AsyncClient(url=url)

    # -- what each kind has of its own -----------------------------------------------------------------

    def open(self) -> Any:
        raise NotImplementedError

    def run(self, statement: str) -> Any:
        raise NotImplementedError

    def begin(self) -> Any:
        """Begin a transaction, where that does not happen by itself."""

    def set_autocommit(self) -> Any:
        """Have each statement committed by itself, where that is not so anyway."""

    def commit(self) -> Any:
        return self.conn.commit()

    def rollback(self) -> Any:
        return self.conn.rollback()

    def close(self) -> Any:
        return self.conn.close()

    # -- for tests ---------------------------------------------------------------------------------------

    async def do(self, method: Callable[..., Any], *arguments: object) -> Any:
        if self.is_async:
            result = method(*arguments)
            return await result if isinstance(result, Awaitable) else result
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(method, *arguments))

    async def enqueue(self, jobs: Sequence[NewJob[Any]]) -> list[str]:
        """Enqueue in the caller's transaction; return the ids."""
        if self.is_async:
            return [job.id for job in await self._async_client.enqueue_many(jobs, conn=self.conn)]
        handles = await self.do(partial(self._client.enqueue_many, jobs, conn=self.conn))
        return [job.id for job in handles]

    async def complete(self, ctx: Context[Any], result: object = None) -> None:
        """Complete the job of a handler in the caller's transaction."""
        if self.is_async:
            await ctx.complete_in(self.conn, result)
        else:
            await self.do(partial(ctx.complete_in, self.conn, result))

    async def wrong_client(self, job: NewJob[Any]) -> None:
        """Enqueue with the client for the other kind of code."""
        if self.is_async:
            self._client.enqueue(job, conn=self.conn)
        else:
            await self._async_client.enqueue(job, conn=self.conn)

    async def finish(self) -> None:
        await self.do(self.close)
        self._client.close()
        await self._async_client.close()
        self._thread.shutdown()


class Psycopg(Caller):
    def open(self) -> None:
        self.conn = psycopg.connect(self.url)

    def run(self, statement: str) -> None:
        self.conn.execute(statement)

    def set_autocommit(self) -> None:
        self.conn.autocommit = True


class PsycopgAsync(Caller):
    is_async = True

    async def open(self) -> None:
        self.conn = await psycopg.AsyncConnection.connect(self.url)

    async def run(self, statement: str) -> None:
        await self.conn.execute(statement)

    async def set_autocommit(self) -> None:
        await self.conn.set_autocommit(True)


class Psycopg2(Caller):
    def open(self) -> None:
        import psycopg2

        self.conn = psycopg2.connect(self.url)

    def run(self, statement: str) -> None:
        with self.conn.cursor() as cursor:
            cursor.execute(statement)

    def set_autocommit(self) -> None:
        self.conn.autocommit = True


class Asyncpg(Caller):
    is_async = True
    explicit = False

    async def open(self) -> None:
        import asyncpg

        self.conn = await asyncpg.connect(self.url)

    async def run(self, statement: str) -> None:
        await self.conn.execute(statement)

    async def begin(self) -> None:
        self._transaction = self.conn.transaction()
        await self._transaction.start()

    async def commit(self) -> None:
        await self._transaction.commit()

    async def rollback(self) -> None:
        await self._transaction.rollback()


class AsyncpgPool(Asyncpg):
    async def open(self) -> None:
        import asyncpg

        self._pool = await asyncpg.create_pool(self.url, min_size=1, max_size=1)
        self.conn = await self._pool.acquire()

    async def close(self) -> None:
        await self._pool.release(self.conn)
        await self._pool.close()


class _SqlAlchemy(Caller):
    driver: ClassVar[str]

    def engine_url(self) -> str:
        return self.url.replace("postgresql://", f"postgresql+{self.driver}://", 1)

    def open(self) -> Any:
        import sqlalchemy

        self._engine = sqlalchemy.create_engine(self.engine_url())
        self.conn = self.connect()

    def connect(self) -> Any:
        return self._engine.connect()

    def run(self, statement: str) -> Any:
        import sqlalchemy

        self.conn.execute(sqlalchemy.text(statement))

    def set_autocommit(self) -> Any:
        self.conn.close()
        self._engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self.conn = self.connect()

    def close(self) -> Any:
        self.conn.close()
        self._engine.dispose()


class SqlAlchemyPsycopg(_SqlAlchemy):
    driver = "psycopg"


class SqlAlchemyPsycopg2(_SqlAlchemy):
    driver = "psycopg2"


class SessionPsycopg(SqlAlchemyPsycopg):
    def connect(self) -> Any:
        from sqlalchemy.orm import Session

        return Session(self._engine)


class ScopedSession(SqlAlchemyPsycopg2):
    def connect(self) -> Any:
        from sqlalchemy.orm import scoped_session, sessionmaker

        return scoped_session(sessionmaker(self._engine))


class _SqlAlchemyAsync(_SqlAlchemy):
    is_async = True

    async def open(self) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine

        self._async_engine = create_async_engine(self.engine_url())
        self.conn = await self.connect_async()

    async def connect_async(self) -> Any:
        return await self._async_engine.connect()

    async def run(self, statement: str) -> None:
        import sqlalchemy

        await self.conn.execute(sqlalchemy.text(statement))

    async def set_autocommit(self) -> None:
        await self.conn.close()
        self._async_engine = self._async_engine.execution_options(isolation_level="AUTOCOMMIT")
        self.conn = await self.connect_async()

    async def close(self) -> None:
        await self.conn.close()
        await self._async_engine.dispose()


class SqlAlchemyAsyncpg(_SqlAlchemyAsync):
    driver = "asyncpg"


class SqlAlchemyAsyncPsycopg(_SqlAlchemyAsync):
    driver = "psycopg"


class SessionAsyncpg(SqlAlchemyAsyncpg):
    async def connect_async(self) -> Any:
        from sqlalchemy.ext.asyncio import AsyncSession

        return AsyncSession(self._async_engine)


class Django(Caller):
    explicit = False

    def open(self) -> None:
        import django
        from django.conf import settings
        from django.db.utils import ConnectionHandler
        from psycopg.conninfo import conninfo_to_dict

        if not settings.configured:
            settings.configure(USE_TZ=True)
        django.setup()
        given = conninfo_to_dict(self.url)
        names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
        database = {"ENGINE": "django.db.backends.postgresql", **{names[k]: v for k, v in given.items() if k in names}}
        self._handler = ConnectionHandler({"default": database})
        self.conn = self.connect()

    def connect(self) -> Any:
        return self._handler["default"]

    def run(self, statement: str) -> None:
        with self.conn.cursor() as cursor:
            cursor.execute(statement)

    def begin(self) -> None:
        self.conn.set_autocommit(False)

    def commit(self) -> None:
        self.conn.commit()
        self.conn.set_autocommit(True)

    def rollback(self) -> None:
        self.conn.rollback()
        self.conn.set_autocommit(True)


class DjangoProxy(Django):
    def connect(self) -> Any:
        from django.utils.connection import ConnectionProxy

        return ConnectionProxy(self._handler, "default")


KINDS: tuple[type[Caller], ...] = (
    Psycopg,
    PsycopgAsync,
    Psycopg2,
    Asyncpg,
    AsyncpgPool,
    SqlAlchemyPsycopg,
    SqlAlchemyPsycopg2,
    SessionPsycopg,
    ScopedSession,
    SqlAlchemyAsyncpg,
    SqlAlchemyAsyncPsycopg,
    SessionAsyncpg,
    Django,
    DjangoProxy,
)


@asynccontextmanager
async def calling(kind: type[Caller], url: str) -> AsyncIterator[Caller]:
    """An application of this kind, open and not in a transaction."""
    caller = kind(url)
    await caller.do(caller.open)
    try:
        yield caller
    finally:
        await caller.finish()
