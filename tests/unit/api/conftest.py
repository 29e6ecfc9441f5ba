"""The server in this process, over a memory store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from goqueue.api.app import create_app
from goqueue.settings import ServerSettings
from tests.support.faulty_store import FaultyStore

SETTINGS = ServerSettings(body_bytes_max=64 * 1024, key_wait_s=0.05, request_timeout_s=2.0, ready_s=0.5)


def client_of(store: FaultyStore, settings: ServerSettings = SETTINGS) -> httpx.AsyncClient:
    """Return a client of a new server over ``store``."""
    transport = httpx.ASGITransport(create_app(store, settings))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.fixture
async def store() -> AsyncIterator[FaultyStore]:
    """A store that can be made to fail."""
    store = FaultyStore()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def client(store: FaultyStore) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server over ``store``."""
    async with client_of(store) as client:
        yield client
