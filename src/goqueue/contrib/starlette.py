"""GoQueue in Starlette, and in what is built on it: one client for the life of the application.

`goqueue.contrib.fastapi` has the same for FastAPI, with a typed dependency.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import HTTPConnection

from goqueue.model.errors import NotConfigured
from goqueue.wiring import AsyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from goqueue.tasks.app import GoQueue

__all__ = ["STATE", "get_client", "lifespan"]

STATE: Final = "goqueue"
"""The client's name in the application's state: ``request.state.goqueue``."""


def lifespan(
    app: GoQueue | None = None,
    url: str | None = None,
    *,
    around: Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]] | None = None,
) -> Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]:  # Any: the application; values of its state
    """Return a lifespan for ``Starlette(lifespan=…)`` or ``FastAPI(lifespan=…)``: it makes a client, and closes it.

    ``app`` and ``url`` as for `AsyncClient`, which connects at its first use. ``around`` is a lifespan of your own; it
    is entered first, and left last, and its state is kept.
    """

    @asynccontextmanager
    async def live(server: Any) -> AsyncIterator[dict[str, Any]]:  # Any: as above
        if around is None:
            async with AsyncClient(app, url) as client:
                yield {STATE: client}
        else:
            async with around(server) as state, AsyncClient(app, url) as client:
                yield {**(state or {}), STATE: client}

    return live


async def get_client(connection: HTTPConnection) -> AsyncClient:
    """Return the client of the application that serves this request. Raises `NotConfigured`."""
    client = getattr(connection.state, STATE, None)
    if not isinstance(client, AsyncClient):
        raise NotConfigured(
            "this application has no GoQueue client: give it lifespan=goqueue.contrib.fastapi.lifespan(app), "
            "or yield {'goqueue': client} from a lifespan of your own; in tests, enter it (with TestClient(app) as …)"
        )
    return client
