"""The composition root: from a URL to a store, from a store to clients, servers and workers.

The only module that names a concrete store. Importing it loads no driver and no web framework: each is imported where
it is first needed, so that `goqueue --help` and `import goqueue` stay light.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

from goqueue.client._async.client import AsyncClient as _AsyncClient
from goqueue.client._sync.client import Client as _Client
from goqueue.configuration import configuration
from goqueue.model.errors import ConfigurationError, InvalidUrl, NotConfigured
from goqueue.model.job import DEFAULT_TENANT

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

    from goqueue.cli.doors import Access
    from goqueue.engine.child import Child
    from goqueue.engine.completion import Completer
    from goqueue.model.admin import SchemaStatus
    from goqueue.model.job import NewJob
    from goqueue.model.lease import Lease
    from goqueue.model.outcome import Note
    from goqueue.model.query import Enqueued
    from goqueue.settings import ServerSettings, StoreSettings
    from goqueue.store.jobs_async import AsyncJobStore
    from goqueue.store.jobs_sync import JobStore
    from goqueue.store.port import Store
    from goqueue.tasks.app import GoQueue

_POSTGRES = ("postgresql://", "postgres://")


def resolve_url(url: str | None = None) -> str:
    """Return where to connect: ``url``, else ``GOQUEUE_URL``, the configuration file, or a running `goqueue dev`.

    Raises `NotConfigured`. A library, a worker or a server never starts a database by itself.
    """
    found = url or configuration().url
    if found is None:
        from goqueue.cli.dev.place import attach

        found = attach()
    if found is None:
        raise NotConfigured(
            "no database: set GOQUEUE_URL (postgresql://user:password@host/database), "
            "or run `goqueue dev` in this project, which brings one"
        )
    return found


def open_store(url: str | None = None, settings: StoreSettings | None = None) -> Store:
    """Return the store behind a URL, not yet connected. ``memory://`` is a store of this process alone, for tests."""
    where = resolve_url(url)
    settings = settings or configuration().store
    if where.startswith(_POSTGRES):
        from goqueue.store.postgres import PostgresStore

        return PostgresStore(where, settings=settings)
    if where == "memory://":
        from goqueue.store.memory import MemoryStore

        return MemoryStore(settings=settings)
    raise _unknown(where)


def _open_jobs_async(url: str | None) -> AsyncJobStore:
    where = resolve_url(url)
    if where.startswith(_POSTGRES):
        from goqueue.store.postgres._async.jobs import AsyncPostgresJobs

        return AsyncPostgresJobs(where, settings=configuration().store)
    raise _unknown(where)


def _open_jobs(url: str | None) -> JobStore:
    where = resolve_url(url)
    if where.startswith(_POSTGRES):
        from goqueue.store.postgres._sync.jobs import PostgresJobs

        return PostgresJobs(where, settings=configuration().store)
    raise _unknown(where)


def _unknown(url: str) -> InvalidUrl:
    scheme, found, _ = url.partition("://")
    # What stands there instead of a scheme may be a password.
    said = f"{scheme}://" if found and scheme.replace("+", "").isalnum() else "a URL without a scheme"
    hint = f": leave out {scheme.removeprefix('postgresql')}" if scheme.startswith("postgresql+") else ""
    return InvalidUrl(f"cannot connect to a store by {said}{hint}: use postgresql://user:password@host/database")


async def migrate(url: str | None = None) -> SchemaStatus:
    """Bring the schema of the database to this version's target."""
    store = open_store(url)
    try:
        return await store.migrate()
    finally:
        await store.close()


class _AsyncTransactions:
    """Enqueue on the caller's own connection, asynchronously."""

    async def enqueue(self, conn: object, jobs: Sequence[NewJob[Any]]) -> list[Enqueued]:
        """Store jobs in the transaction that ``conn`` is in."""
        from goqueue.store.postgres._async.callers import enqueue_in

        return await enqueue_in(conn, jobs, None)


class _Transactions:
    """Enqueue on the caller's own connection."""

    def enqueue(self, conn: object, jobs: Sequence[NewJob[Any]]) -> list[Enqueued]:
        """Store jobs in the transaction that ``conn`` is in."""
        from goqueue.store.postgres._sync.callers import enqueue_in

        return enqueue_in(conn, jobs, None)


def _check_app(app: object) -> None:
    if isinstance(app, str):
        raise ConfigurationError("a client's first argument is the application: Client(app, url), or Client(url=url)")


class AsyncClient(_AsyncClient):
    """Store, find and change jobs from async code. Connects at its first use.

    ``url`` is where (default: see `resolve_url`). ``app`` tells the result types of jobs that are looked up by id.
    """

    def __init__(self, app: GoQueue | None = None, url: str | None = None, *, tenant: str = DEFAULT_TENANT) -> None:
        _check_app(app)
        super().__init__(app, connect=lambda: _open_jobs_async(url), transactions=_AsyncTransactions(), tenant=tenant)


class Client(_Client):
    """Store, find and change jobs. Blocks its thread, also under a running event loop. Connects at its first use.

    ``url`` is where (default: see `resolve_url`). ``app`` tells the result types of jobs that are looked up by id.
    """

    def __init__(self, app: GoQueue | None = None, url: str | None = None, *, tenant: str = DEFAULT_TENANT) -> None:
        _check_app(app)
        super().__init__(app, connect=lambda: _open_jobs(url), transactions=_Transactions(), tenant=tenant)


# -- the command line ---------------------------------------------------------------------------------


class _Doors:
    """What the command line needs; see `goqueue.cli.doors.Doors`."""

    worker_target = "goqueue.wiring:work"

    def resolve(self, url: str | None) -> str:
        """Return where to connect."""
        return resolve_url(url)

    def client(self, url: str | None, app: GoQueue | None = None) -> Client:
        """Return a client."""
        return Client(app, url)

    def store(self, url: str | None, settings: StoreSettings | None = None) -> Store:
        """Return a store."""
        return open_store(url, settings)

    async def serve(
        self, store: Store, settings: ServerSettings, *, ready: Callable[[str], None], stop: asyncio.Event
    ) -> None:
        """Serve a store over HTTP."""
        from goqueue.api.server import serve

        await serve(store, settings, ready=ready, stop=stop)

    def check_address(self, settings: ServerSettings) -> None:
        """Refuse an address that is open to others while no API key exists."""
        from goqueue.api.auth import check_bind

        check_bind(settings.host)

    def migration_script(self) -> str:
        """Return all migrations as one script."""
        from goqueue.store.postgres.migrate import script

        return script()

    async def grant(self, url: str | None, role: str, access: Access, *, dry_run: bool) -> list[str]:
        """Give a role its rights."""
        from goqueue.store.postgres.grants import grant

        where = resolve_url(url)
        if not where.startswith(_POSTGRES):
            raise _unknown(where)
        return await grant(where, configuration().store, role, access.value, dry_run=dry_run)


async def work(child: Child) -> None:
    """Be one worker process under `goqueue worker` or `goqueue dev`; see `goqueue.engine.child`."""
    from goqueue.cli.working import work

    await work(child, open_store, completer)


def completer(store: Store, settings: StoreSettings | None = None) -> Completer | None:
    """Return how handlers complete their jobs in transactions of their own; None on a store that cannot."""
    if not store.capabilities.transactional_complete:
        return None
    from goqueue.engine.completion import Completer
    from goqueue.store.postgres.retention import of_completed

    return Completer("goqueue.wiring:complete_in", of_completed(settings or configuration().store))


def complete_in(payload: str, conn: object, lease: Lease, result: bytes | None, note: Note | None) -> Awaitable[None]:
    """Complete a job in the transaction of ``conn``; see `goqueue.engine.completion.Completer`."""
    from goqueue.engine.completion import DONE
    from goqueue.store.postgres.kinds import is_async
    from goqueue.store.postgres.retention import completed_s

    retention_s = completed_s(payload, lease.queue)
    if is_async(conn):
        from goqueue.store.postgres._async import callers

        return callers.complete_in(conn, lease.id, lease.fence, result, retention_s, note)
    from goqueue.store.postgres._sync import callers as sync_callers

    sync_callers.complete_in(conn, lease.id, lease.fence, result, retention_s, note)
    return DONE


def main() -> NoReturn:
    """Entry point of the `goqueue` command."""
    from goqueue.cli.main import run

    sys.exit(run(_Doors()))
