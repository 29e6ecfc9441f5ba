"""`Doors`: what the command line needs of the rest of the house. `goqueue.wiring` implements it; cli names no store."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from goqueue.client._sync.client import Client
    from goqueue.settings import ServerSettings, StoreSettings
    from goqueue.store.port import Store
    from goqueue.tasks.app import GoQueue


class Access(StrEnum):
    """What a database role is to be good for (`goqueue db grant`)."""

    OWNER = "owner"
    WORKER = "worker"
    ENQUEUER = "enqueuer"
    READER = "reader"


class Doors(Protocol):
    """Opens things by URL. Nothing is imported, and nothing connects, before it is needed."""

    @property
    def worker_target(self) -> str:
        """``module:function`` that a supervised worker process runs (see `goqueue.engine.child`)."""
        ...

    def resolve(self, url: str | None) -> str:
        """Return where to connect; raises `NotConfigured`."""
        ...

    def client(self, url: str | None, app: GoQueue | None = None) -> Client:
        """Return a client, which connects at its first use."""
        ...

    def store(self, url: str | None, settings: StoreSettings | None = None) -> Store:
        """Return the store behind a URL, not yet connected."""
        ...

    async def serve(
        self, store: Store, settings: ServerSettings, *, ready: Callable[[str], None], stop: asyncio.Event
    ) -> None:
        """Serve a store over HTTP until ``stop`` is set."""
        ...

    def check_address(self, settings: ServerSettings) -> None:
        """Raise `ConfigurationError` for an address that is open to others while no API key exists."""
        ...

    def migration_script(self) -> str:
        """Return all migrations as one SQL script."""
        ...

    async def grant(self, url: str | None, role: str, access: Access, *, dry_run: bool) -> list[str]:
        """Give a role of the database its rights; return the statements (with ``dry_run`` only these)."""
        ...
