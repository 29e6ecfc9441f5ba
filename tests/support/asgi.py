"""An ASGI application behind a real server, in a thread with a loop of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import httpx
import uvicorn

from tests.support.processes import DEADLINE_S, until


@contextmanager
def served(app: Any, *, lifespan: Literal["on", "off"] = "on") -> Iterator[httpx.Client]:
    """Serve ``app`` on a free port; give a client for it."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan=lifespan, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, name="served")
    thread.start()
    try:
        assert until(lambda: server.started or not thread.is_alive())
        assert server.started, "the application did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S) as http:
            yield http
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
