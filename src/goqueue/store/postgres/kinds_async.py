"""How a statement is run in the transaction of an async connection that is the caller's, whatever driver it has.

The libraries are not imported and not known to the type checker: `kinds.kind_of` has looked at what they are.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from goqueue.model.errors import InvalidInput
from goqueue.store.postgres.kinds import Kind, kind_of, wrong_side
from goqueue.store.postgres.kinds_sync import check_dialect, check_transaction
from goqueue.store.postgres.states import CLOSED, translate

if TYPE_CHECKING:
    from goqueue.store.postgres.functions import Call
    from goqueue.store.postgres.statement import Rows


async def ask(conn: Any, call: Call) -> Rows:  # Any: see above
    """Run a call of a stored function. Raises `InvalidInput` for a connection that cannot be used, and our errors."""
    kind = kind_of(conn)
    try:
        match kind:
            case Kind.ASYNCPG:
                return await _asyncpg(conn, call)
            case Kind.SESSION_ASYNC:
                return await _sqlalchemy(await conn.connection(), call)
            case Kind.SQLALCHEMY_ASYNC:
                return await _sqlalchemy(conn, call)
            case _:
                raise wrong_side(conn, wanted_async=True)
    except Exception as e:
        error = translate(e)
        if error is None:
            raise
        raise error from e


async def _asyncpg(conn: Any, call: Call) -> Rows:  # Any: see above
    if conn.is_closed():
        raise InvalidInput(CLOSED, "conn")
    check_transaction(conn, call)
    if conn.is_in_transaction():
        return await _asyncpg_fetch(conn, call)
    async with conn.transaction():  # its two trips: behind a pooler they must come to one session
        return await _asyncpg_fetch(conn, call)


async def _asyncpg_fetch(conn: Any, call: Call) -> Rows:  # Any: see above
    # Without a name nothing stays on the server, and asyncpg's cache of statements does not see it.
    statement = await conn.prepare(call.sql(), name="")
    return [tuple(row) for row in await statement.fetch(call.payload)]


async def _sqlalchemy(conn: Any, call: Call) -> Rows:  # Any: see above
    check_dialect(conn)
    check_transaction(conn.sync_connection, call)
    text = sys.modules["sqlalchemy"].text
    result = await conn.execute(text(call.sql(":payload")), {"payload": call.payload})
    return [tuple(row) for row in result.fetchall()]
