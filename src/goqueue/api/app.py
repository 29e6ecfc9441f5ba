"""The ASGI application: the service over a store, and a route for each operation of the table."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.routing import Route, Router

from goqueue.api.auth import Authenticator, OpenOnLoopback
from goqueue.api.endpoint import Endpoint, Methods, send_problem
from goqueue.api.http import Handlers
from goqueue.api.openapi import document
from goqueue.api.operations import OPERATIONS
from goqueue.api.problem import RouteNotFound
from goqueue.service.health import Health
from goqueue.service.idempotency import Idempotency
from goqueue.service.jobs import Jobs
from goqueue.service.submit import Submitter
from goqueue.store.gather import Gatherer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from goqueue.settings import ServerSettings
    from goqueue.store.port import Store


def create_app(store: Store, settings: ServerSettings, *, authenticator: Authenticator | None = None) -> ASGIApp:
    """Return the server as an ASGI application over an open store. Closing the store is the caller's work.

    Without an ``authenticator`` it is open to whoever reaches it on loopback; see `goqueue.api.auth`.
    """
    health = Health(store, ready_s=settings.ready_s)
    gatherer = Gatherer(
        store, batch_max=settings.gather_max, waiting_max=settings.submissions_waiting_max, heard=health.heard
    )
    submitter = Submitter(
        store,
        gatherer,
        key_wait_s=settings.key_wait_s,
        waiting_max=settings.submissions_waiting_max,
        heard=health.heard,
    )
    handlers = Handlers(
        submitter=submitter,
        jobs=Jobs(store),
        idempotency=Idempotency(store, ttl_s=settings.idempotency_ttl_s),
        health=health,
        document=document().encode(),
        batch_max=settings.batch_max,
    )
    paths = _paths(handlers, authenticator or OpenOnLoopback(), settings)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        yield
        await gatherer.close(settings.grace_s)
        await health.close()

    routes = [Route(path, methods) for path, methods in paths.items()]
    router = Router(routes, redirect_slashes=False, default=_not_found, lifespan=lifespan)
    return _ShortCut({path: methods for path, methods in paths.items() if "{" not in path}, router)


def _paths(handlers: Handlers, authenticator: Authenticator, settings: ServerSettings) -> dict[str, Methods]:
    by_operation = handlers.by_operation()
    if by_operation.keys() != {op.name for op in OPERATIONS}:
        raise RuntimeError("operations and handlers do not match")
    endpoints: dict[str, dict[str, Endpoint]] = {}
    for op in OPERATIONS:
        endpoints.setdefault(op.path, {})[op.method] = Endpoint(
            op,
            by_operation[op.name],
            authenticator,
            body_bytes_max=settings.body_bytes_max,
            timeout_s=settings.request_timeout_s,
        )
    return {path: Methods(methods) for path, methods in endpoints.items()}


class _ShortCut:
    """The router, and before it a look-up for the paths without parameters: submissions do not walk the routes."""

    def __init__(self, paths: Mapping[str, Methods], router: Router) -> None:
        self._paths = paths
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        methods = self._paths.get(scope["path"]) if scope["type"] == "http" else None
        if methods is not None:
            await methods(scope, receive, send)
        else:
            await self._router(scope, receive, send)


async def _not_found(scope: Scope, _receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send_problem(send, RouteNotFound("there is nothing at this path; /openapi.json lists what there is"))
    else:  # a WebSocket: refuse the handshake
        await send({"type": "websocket.close", "code": 1000})
