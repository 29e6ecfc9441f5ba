"""`ctx.complete_in`: a handler completes its job inside a transaction of its own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

import msgspec

from goqueue.model.errors import CompletionRolledBack, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from goqueue.model.lease import Lease
    from goqueue.model.outcome import Note


class Completer(msgspec.Struct, frozen=True):
    """How it is done on this worker's store: ``ref`` (``module:function``) names a function, which finds in ``payload``
    what it has to know. By name, so that the processes of ``run_in="process"`` handlers find it, too.

    The function takes ``(payload, conn, lease, result, note)``, does it at once on a sync connection and returns
    `DONE`, or returns a coroutine that does it on an async one. It raises `LeaseLost` if the lease is not valid.
    """

    ref: str
    payload: str = ""

    def __call__(self, conn: object, lease: Lease, result: bytes | None, note: Note | None) -> Awaitable[None]:
        """Complete the job of ``lease`` on ``conn``; ``note`` is what no beat has brought to the store, perhaps."""
        module, _, name = self.ref.partition(":")
        function: Callable[[str, object, Lease, bytes | None, Note | None], Awaitable[None]] = getattr(
            importlib.import_module(module), name
        )
        return function(self.payload, conn, lease, result, note)


class Done:
    """Awaited, it is there at once: plain functions need not await it."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


DONE: Final = Done()


def complete(
    completer: Completer | None,
    conn: object,
    lease: Lease,
    result: bytes | None,
    note: Note | None,
    *,
    mark: Callable[[bool], bool],
) -> Awaitable[None]:
    """Complete the job on ``conn``. ``mark(True)`` is called before, and tells what was marked until then; if it fails
    and nothing was completed before, ``mark(False)`` takes it back.
    """
    if completer is None:
        raise InvalidInput(
            "ctx.complete_in needs a worker on PostgreSQL: return from the handler instead, which completes the job",
            "conn",
        )
    before = mark(True)
    try:
        work = completer(conn, lease, result, note)
    except Exception:
        mark(before)
        raise
    if work is DONE:
        return work
    mark(before)
    return _complete_later(work, mark)


async def _complete_later(work: Awaitable[None], mark: Callable[[bool], bool]) -> None:
    before = mark(True)
    try:
        await work
    except Exception:
        mark(before)
        raise


def rolled_back(lease: Lease) -> CompletionRolledBack:
    """Return what an attempt has failed with whose handler has returned, if its completion was not committed.

    The store knows: under the fence of a job that is completed it answers ``already``, and nothing has failed.
    """
    return CompletionRolledBack(
        f"ctx.complete_in has completed job {lease.id} in a transaction that was rolled back: commit it in the handler"
    )
