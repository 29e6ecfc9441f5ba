"""How a statement is run in the transaction of a sync connection that is the caller's, whatever driver it has.

The libraries are not imported and not known to the type checker: `kinds.kind_of` has looked at what they are.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from goqueue.model.errors import InvalidInput
from goqueue.store.postgres.kinds import Kind, commits_by_itself, kind_of, wrong_side
from goqueue.store.postgres.states import CLOSED, FAILED, NO_TRANSACTION, translate

if TYPE_CHECKING:
    from goqueue.store.postgres.functions import Call
    from goqueue.store.postgres.statement import Rows

_PSYCOPG2_INERROR: Final = 3
"""``psycopg2.extensions.TRANSACTION_STATUS_INERROR``."""


def ask(conn: Any, call: Call) -> Rows:  # Any: see above
    """Run a call of a stored function. Raises `InvalidInput` for a connection that cannot be used, and our errors."""
    kind = kind_of(conn)
    try:
        match kind:
            case Kind.PSYCOPG2:
                return _psycopg2(conn, call)
            case Kind.DJANGO:
                return _django(conn, call)
            case Kind.SCOPED:
                return _sqlalchemy(conn().connection(), call)
            case Kind.SESSION:
                return _sqlalchemy(conn.connection(), call)
            case Kind.SQLALCHEMY:
                return _sqlalchemy(conn, call)
            case _:
                raise wrong_side(conn, wanted_async=False)
    except Exception as e:
        error = translate(e)
        if error is None:
            raise
        raise error from e


def check_dialect(conn: Any) -> None:  # Any: see above
    """Refuse a SQLAlchemy connection to another kind of database. Raises `InvalidInput`."""
    if conn.dialect.name != "postgresql":
        raise InvalidInput(f"is to {conn.dialect.name}: jobs are in PostgreSQL", "conn")


def check_transaction(conn: Any, call: Call) -> None:  # Any: see above
    """Refuse a connection that commits by itself, if the call needs a transaction. Raises `InvalidInput`."""
    if call.in_transaction and commits_by_itself(conn):
        raise InvalidInput(NO_TRANSACTION, "conn")


def _psycopg2(conn: Any, call: Call) -> Rows:  # Any: see above
    if conn.closed:
        raise InvalidInput(CLOSED, "conn")
    if conn.async_:
        raise InvalidInput("is a psycopg2 connection in asynchronous mode: bring a plain one", "conn")
    if conn.info.transaction_status == _PSYCOPG2_INERROR:
        raise InvalidInput(FAILED, "conn")
    if conn.encoding != "UTF8":
        raise InvalidInput(f"has client_encoding {conn.encoding}: it must be UTF8", "conn")
    check_transaction(conn, call)
    # Not the caller's own kind of cursor, whose rows may be anything.
    with conn.cursor(cursor_factory=sys.modules["psycopg2.extensions"].cursor) as cursor:
        cursor.execute(call.sql("%s"), (call.payload,))
        rows: Rows = cursor.fetchall()
    return rows


def _django(conn: Any, call: Call) -> Rows:  # Any: see above
    if conn.vendor != "postgresql":
        raise InvalidInput(f"is to {conn.vendor}: jobs are in PostgreSQL", "conn")
    check_transaction(conn, call)
    with conn.cursor() as cursor:
        cursor.execute(call.sql("%s"), [call.payload])
        rows: Rows = cursor.fetchall()
    return rows


def _sqlalchemy(conn: Any, call: Call) -> Rows:  # Any: see above
    check_dialect(conn)
    check_transaction(conn, call)
    text = sys.modules["sqlalchemy"].text
    result = conn.execute(text(call.sql(":payload")), {"payload": call.payload})
    return [tuple(row) for row in result.fetchall()]
