"""The driver's errors as GoQueue's."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import errors as pg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from goqueue.model.errors import (
    GoQueueError,
    InvalidInput,
    KeyBusy,
    PermissionDenied,
    SchemaMissing,
    SchemaOutdated,
    SerializationConflict,
    StoreUnavailable,
)
from goqueue.store.postgres.states import OURS, of_state

DriverError: Final = (psycopg.Error, PoolTimeout, PoolClosed, TooManyRequests)
"""What the driver and its pool raise."""


def translate(e: BaseException) -> GoQueueError:
    """Return the error to raise instead of the driver's.

    What no rule names is `StoreUnavailable`, too: a worker keeps its outcomes and tries again, whatever it was.
    """
    match e:
        case PoolTimeout() | TooManyRequests():
            return StoreUnavailable(
                "no connection to PostgreSQL became free in time: is it up, and pool_max large enough?"
            )
        case PoolClosed():
            return StoreUnavailable("the store is closed")
        case psycopg.Error(sqlstate=str(state)) if state.startswith(OURS):
            return of_state(state, _first_line(e), e.diag.message_detail or "")
        case pg.InvalidSchemaName() | pg.UndefinedTable():
            return SchemaMissing("the database has no GoQueue schema: run `goqueue db migrate`")
        case pg.UndefinedColumn() | pg.UndefinedFunction():
            return SchemaOutdated("the database's schema is older than this version needs: run `goqueue db migrate`")
        case pg.InsufficientPrivilege():
            return PermissionDenied(f"{_first_line(e)}: grant the role its rights with `goqueue db grant`")
        case pg.SerializationFailure() | pg.DeadlockDetected():
            return SerializationConflict("a concurrent transaction got in the way: run the whole transaction again")
        case pg.LockNotAvailable():
            return KeyBusy("a lock was not free in time: try again")
        case pg.ReadOnlySqlTransaction():
            return StoreUnavailable("the database is read-only: a standby, or in the middle of a failover")
        case _ if is_statement_pooling(e):
            return StoreUnavailable(
                "the pooler in front of PostgreSQL is in statement mode, where there are no transactions: "
                "set its pool_mode to transaction, or connect to PostgreSQL itself"
            )
        case psycopg.OperationalError() if "unsupported startup parameter" in str(e):
            return StoreUnavailable(
                f"the pooler in front of PostgreSQL refuses what the URL asks for: {_first_line(e)}: take it out "
                "(ALTER ROLE … SET does the same), or connect to PostgreSQL itself"
            )
        case _ if is_missing_partition(e):
            return StoreUnavailable(
                "the history has no partition for today: run `goqueue server` or `goqueue db migrate` as the owner"
            )
        case _ if is_bad_row(e):
            return InvalidInput(f"PostgreSQL cannot store this: {_first_line(e)}")
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return StoreUnavailable(f"PostgreSQL did not answer: {_first_line(e)}")
        case _:
            return StoreUnavailable(f"PostgreSQL refused: {_first_line(e)}")


def is_bad_row(e: BaseException) -> bool:
    """Tell whether one item of a batch is to blame, so that the others may pass without it."""
    return isinstance(e, psycopg.DataError | psycopg.IntegrityError | pg.ProgramLimitExceeded)


def is_missing_partition(e: BaseException | None) -> bool:
    """Tell whether a final job met no history partition for its day."""
    return isinstance(e, pg.CheckViolation) and "no partition of relation" in str(e)


def is_locked(e: BaseException | None) -> bool:
    """Tell whether a lock was not free within the time that a statement allows for it."""
    return isinstance(e, pg.LockNotAvailable)


def is_statement_pooling(e: BaseException | None) -> bool:
    """Tell whether a pooler refused a transaction because it gives each statement to another session."""
    return isinstance(e, psycopg.OperationalError) and "statement pooling mode" in str(e)


def _first_line(e: BaseException) -> str:
    return str(e).strip().split("\n", 1)[0] or type(e).__name__
