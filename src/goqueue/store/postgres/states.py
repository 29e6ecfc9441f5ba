"""Errors of drivers that are not ours as GoQueue's, by the SQLSTATE that PostgreSQL gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from goqueue.model.errors import (
    GoQueueError,
    InvalidInput,
    InvalidJob,
    KeyBusy,
    LeaseLost,
    PermissionDenied,
    SchemaMissing,
    SchemaOutdated,
    SerializationConflict,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_DRIVERS: Final = ("asyncpg", "django", "psycopg", "psycopg2", "sqlalchemy")
_CHAIN_MAX: Final = 10
OURS: Final = "GQ"
"""What SQLSTATEs of our stored functions begin with."""
FAILED: Final = "its transaction has failed: roll it back first"
NO_TRANSACTION: Final = (
    "commits each statement by itself: begin a transaction, write what the job does, call ctx.complete_in, and commit"
)
CLOSED: Final = "is closed: open another"


def translate(e: Exception) -> GoQueueError | None:
    """Return the error to raise instead of a driver's or a framework's; None for what is not theirs."""
    if isinstance(e, UnicodeEncodeError):
        return InvalidInput(f"has client_encoding {e.encoding}, which cannot hold these jobs: it must be UTF8", "conn")
    chain = list(_chain(e))
    for one in chain:
        state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if isinstance(state, str) and len(state) == 5:
            return of_state(state, _first_line(one), _pointer(one))
    if isinstance(e, OSError | TimeoutError):
        return StoreUnavailable(f"PostgreSQL did not answer: {_first_line(e)}")
    if type(e).__module__.partition(".")[0] not in _DRIVERS:
        return None
    names = {cls.__name__ for one in chain for cls in type(one).__mro__}
    if names & {"PendingRollbackError", "TransactionManagementError"}:
        return InvalidInput(FAILED, "conn")
    if any("closed" in str(one) for one in chain) and names & {"InterfaceError", "ResourceClosedError"}:
        return InvalidInput(CLOSED, "conn")
    if "OperationalError" in names or any(isinstance(one, OSError) for one in chain):
        return StoreUnavailable(f"PostgreSQL did not answer: {_first_line(e)}")
    return InvalidInput(f"cannot be used: {_first_line(e)}", "conn")


def of_state(state: str, message: str, pointer: str = "") -> GoQueueError:
    """Return the error for a SQLSTATE."""
    match state:
        case "GQ001":
            return InvalidJob(message.removeprefix(f"{pointer}: "), pointer)
        case "GQ002":
            return LeaseLost(message)
        case "GQ003" | "55P03":
            return KeyBusy("a lock, perhaps on a unique key, was not free in time: try again")
        case "GQ004":
            return StoreUnavailable(
                f"{message}: run `goqueue server` or `goqueue db migrate` as the owner of the schema"
            )
        case "25P02":
            return InvalidInput(FAILED, "conn")
        case "3F000" | "42P01":
            return SchemaMissing("the database has no GoQueue schema: run `goqueue db migrate`")
        case "42703" | "42883":
            return SchemaOutdated("the database's schema is older than this version needs: run `goqueue db migrate`")
        case "42501":
            return PermissionDenied(f"{message}: grant the role its rights with `goqueue db grant`")
        case "40001" | "40P01":
            return SerializationConflict("a concurrent transaction got in the way: run the whole transaction again")
        case "25006":
            return StoreUnavailable("the database is read-only: a standby, or in the middle of a failover")
        case "23514" if message.startswith("no partition of relation"):
            return StoreUnavailable(
                f"{message}: run `goqueue server` or `goqueue db migrate` as the owner of the schema"
            )
        case _ if state[:2] in ("22", "23", "54"):
            return InvalidInput(f"PostgreSQL cannot store this: {message}")
        case _:
            return StoreUnavailable(f"PostgreSQL refused: {message}")


def _chain(e: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it stands for: frameworks wrap what the driver has raised."""
    seen: list[BaseException] = []
    waiting: list[object] = [e]
    while waiting and len(seen) < _CHAIN_MAX:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            yield one
            waiting += [getattr(one, "orig", None), one.__cause__]


def _pointer(e: BaseException) -> str:
    """Return the DETAIL of an error: of asyncpg it is an attribute, of the psycopgs one of its ``diag``."""
    detail = getattr(e, "detail", None) or getattr(getattr(e, "diag", None), "message_detail", None)
    return detail if isinstance(detail, str) else ""


def _first_line(e: BaseException) -> str:
    return str(e).strip().split("\n", 1)[0] or type(e).__name__
