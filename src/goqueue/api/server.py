"""Runs the HTTP server on a socket until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from goqueue.api.app import create_app
from goqueue.api.auth import check_bind
from goqueue.api.protocol import bounded_protocol
from goqueue.model.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from goqueue.api.auth import Authenticator
    from goqueue.settings import ServerSettings
    from goqueue.store.port import Store

_BACKLOG = 2048
_KEEP_ALIVE_S = 75
"""For an idle connection. Longer than the 60 s of common load balancers, which must be the ones to close."""


async def serve(
    store: Store,
    settings: ServerSettings,
    *,
    ready: Callable[[str], None] | None = None,
    stop: asyncio.Event | None = None,
    authenticator: Authenticator | None = None,
    keys_exist: bool = False,
) -> None:
    """Serve an open store over HTTP until ``stop`` is set, or without one until SIGTERM or SIGINT.

    ``ready`` is called with the server's URL once it accepts connections. A stop, and likewise the cancellation of
    this coroutine, lets requests under way finish for ``settings.grace_s`` seconds; a second signal does not wait.
    Raises `ConfigurationError` when the address cannot be bound or must not be without an API key.
    """
    check_bind(settings.host, keys_exist=keys_exist)
    listener = _listen(settings.host, settings.port)
    app = create_app(store, settings, authenticator=authenticator)
    config = uvicorn.Config(
        app,
        http=bounded_protocol(header_bytes_max=settings.header_bytes_max, header_timeout_s=settings.header_timeout_s),
        ws="none",
        lifespan="on",
        loop="none",  # the caller's
        log_config=None,
        log_level="error",  # its warnings are of what clients send, one a request and without bound
        access_log=False,
        proxy_headers=False,  # nobody reads the addresses, and none of these headers could be trusted
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
    )
    server = _Server(config, lambda: ready(_url(settings.host, listener)) if ready is not None else None)
    running = asyncio.create_task(server.run_on(listener), name="goqueue.server")
    try:
        if stop is not None:
            await _until(running, stop)
        else:
            stop = asyncio.Event()
            with _signals(stop, server):
                await _until(running, stop)
                server.should_exit = True
                await asyncio.shield(running)
    finally:
        server.should_exit = True
        await asyncio.wait([running], timeout=2 * settings.grace_s + 5)
        listener.close()
    await running


class _Server(uvicorn.Server):
    """uvicorn's server, which tells when it listens and leaves the signals to us."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started

    async def run_on(self, listener: socket.socket) -> None:
        await self.serve([listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as e:
        raise ConfigurationError(f"cannot listen on {host} port {port}: {e.strerror or e}") from e


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _until(running: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Return when the server has ended by itself, or ``stop`` is set."""
    stopped = asyncio.create_task(stop.wait(), name="goqueue.server.stop")
    try:
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()


@contextmanager
def _signals(stop: asyncio.Event, server: _Server) -> Iterator[None]:
    def on_signal() -> None:
        server.force_exit = stop.is_set()
        stop.set()

    loop = asyncio.get_running_loop()
    wanted = (signal.SIGTERM, signal.SIGINT)
    for number in wanted:
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)
