"""GoQueue in Litestar: a plugin that opens a client, gives it to handlers, and closes it.

api = Litestar([order], plugins=[GoQueuePlugin(app)])

@post("/orders")
async def order(queue: NamedDependency[AsyncClient]) -> str: ...
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from litestar.datastructures import State
from litestar.di import Provide
from litestar.plugins import InitPlugin

from goqueue.wiring import AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from litestar import Litestar
    from litestar.config.app import AppConfig

    from goqueue.tasks.app import GoQueue

__all__ = ["GoQueuePlugin"]


class GoQueuePlugin(InitPlugin):
    """A client for the life of the application. Handlers get it as the parameter ``dependency``.

    ``app`` and ``url`` as for `AsyncClient`, which connects at its first use.
    """

    def __init__(self, app: GoQueue | None = None, url: str | None = None, *, dependency: str = "queue") -> None:
        self._app = app
        self._url = url
        self._dependency = dependency

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the lifespan and the dependency."""

        @asynccontextmanager
        async def live(server: Litestar) -> AsyncIterator[None]:
            async with AsyncClient(self._app, self._url) as client:
                server.state.goqueue = client
                yield

        app_config.lifespan = [live, *app_config.lifespan]
        app_config.dependencies = {**app_config.dependencies, self._dependency: Provide(_provide, sync_to_thread=False)}
        app_config.signature_types = [*app_config.signature_types, AsyncClient]
        return app_config


def _provide(state: State) -> AsyncClient:
    client: AsyncClient = state.goqueue
    return client
