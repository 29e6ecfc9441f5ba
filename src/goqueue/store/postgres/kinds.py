"""Which kind of connection a caller has brought. What is asked for is never imported: who has one, has imported it."""

from __future__ import annotations

import sys
from enum import Enum, auto
from typing import Any, Final

from goqueue.model.errors import InvalidInput

_IDLE: Final = 0
"""``TransactionStatus.IDLE`` of both psycopgs."""


class Kind(Enum):
    """What can be told apart."""

    PSYCOPG = auto()
    PSYCOPG_ASYNC = auto()
    PSYCOPG2 = auto()
    ASYNCPG = auto()
    SQLALCHEMY = auto()
    SQLALCHEMY_ASYNC = auto()
    SESSION = auto()
    SESSION_ASYNC = auto()
    SCOPED = auto()
    DJANGO = auto()


_ASYNC: Final = frozenset({Kind.PSYCOPG_ASYNC, Kind.ASYNCPG, Kind.SQLALCHEMY_ASYNC, Kind.SESSION_ASYNC})

_CLASSES: Final = (
    ("psycopg", "Connection", Kind.PSYCOPG),
    ("psycopg", "AsyncConnection", Kind.PSYCOPG_ASYNC),
    ("asyncpg.connection", "Connection", Kind.ASYNCPG),
    ("asyncpg.pool", "PoolConnectionProxy", Kind.ASYNCPG),
    ("sqlalchemy.orm", "Session", Kind.SESSION),
    ("sqlalchemy.orm", "scoped_session", Kind.SCOPED),
    ("sqlalchemy.engine", "Connection", Kind.SQLALCHEMY),
    ("sqlalchemy.ext.asyncio", "AsyncSession", Kind.SESSION_ASYNC),
    ("sqlalchemy.ext.asyncio", "async_scoped_session", Kind.SESSION_ASYNC),
    ("sqlalchemy.ext.asyncio", "AsyncConnection", Kind.SQLALCHEMY_ASYNC),
    ("django.db.backends.base.base", "BaseDatabaseWrapper", Kind.DJANGO),
    ("django.utils.connection", "ConnectionProxy", Kind.DJANGO),
    ("psycopg2.extensions", "connection", Kind.PSYCOPG2),
)
_NO_CONNECTION: Final = (
    ("sqlalchemy.engine", "Engine"),
    ("sqlalchemy.ext.asyncio", "AsyncEngine"),
    ("sqlalchemy.orm", "sessionmaker"),
    ("sqlalchemy.ext.asyncio", "async_sessionmaker"),
    ("asyncpg.pool", "Pool"),
    ("psycopg_pool", "ConnectionPool"),
    ("psycopg_pool", "AsyncConnectionPool"),
    ("django.utils.connection", "BaseConnectionHandler"),
)
"""What makes connections, and is easily given instead of one."""
_TAKEN: Final = (
    "a connection of psycopg, asyncpg, psycopg2 or Django, or a Session, AsyncSession, Connection or AsyncConnection"
    " of SQLAlchemy"
)


def kind_of(conn: object) -> Kind:
    """Tell what kind of connection this is. Raises `InvalidInput` for what is none."""
    for module, name, kind in _CLASSES:
        if _is_a(conn, module, name):
            return kind
    if any(_is_a(conn, module, name) for module, name in _NO_CONNECTION):
        raise InvalidInput(f"{_named(conn)} makes connections: give it one of these, with its transaction", "conn")
    raise InvalidInput(f"must be {_TAKEN}, is {_named(conn)}", "conn")


def is_async(conn: object) -> bool:
    """Tell whether what is done on this connection has to be awaited. Raises `InvalidInput` for what is none."""
    return kind_of(conn) in _ASYNC


def commits_by_itself(conn: Any) -> bool:  # Any: see `kinds_sync`
    """Tell whether a statement on this connection, which is open, would be a transaction of its own."""
    match kind_of(conn):
        case Kind.PSYCOPG | Kind.PSYCOPG_ASYNC | Kind.PSYCOPG2:
            return bool(conn.autocommit) and conn.info.transaction_status == _IDLE
        case Kind.ASYNCPG:
            return not conn.is_in_transaction()
        case Kind.DJANGO:
            return bool(conn.get_autocommit())
        case Kind.SQLALCHEMY:
            # Of its isolation level AUTOCOMMIT; else its driver is told to begin with the first statement.
            return bool(conn.connection.dbapi_connection.autocommit) and commits_by_itself(
                conn.connection.driver_connection
            )
        case _:
            raise TypeError(f"not looked into: {_named(conn)}")


def wrong_side(conn: object, *, wanted_async: bool) -> InvalidInput:
    """Return the error for an async connection where a sync one is needed, or the other way round."""
    if wanted_async:
        return InvalidInput(f"{_named(conn)} is synchronous: use it with goqueue.Client, or bring an async one", "conn")
    return InvalidInput(f"{_named(conn)} is asynchronous: use it with goqueue.AsyncClient, or bring a sync one", "conn")


def _is_a(conn: object, module: str, name: str) -> bool:
    found = getattr(sys.modules.get(module), name, None)
    return isinstance(found, type) and isinstance(conn, found)


def _named(conn: object) -> str:
    return f"{type(conn).__module__}.{type(conn).__qualname__}"
