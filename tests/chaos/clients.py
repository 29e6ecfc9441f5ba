"""Clients with settings of their own: those of `goqueue.wiring` take theirs from the environment of the process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx

from goqueue.client._async.client import AsyncClient
from goqueue.client._sync.client import Client
from goqueue.settings import ClientSettings, StoreSettings
from goqueue.store.postgres._async.jobs import AsyncPostgresJobs
from goqueue.store.postgres._sync.jobs import PostgresJobs
from goqueue.wiring import _AsyncTransactions, _Transactions
from tests.chaos.ledger import Ledger

TRY_AGAIN_S = 0.1
WAIT_S = 60.0


def sync_client(url: str, client: ClientSettings | None = None, **settings: Any) -> Client:
    store = StoreSettings(**settings)
    return Client(connect=lambda: PostgresJobs(url, settings=store), transactions=_Transactions(), settings=client)


def async_client(url: str, client: ClientSettings | None = None, **settings: Any) -> AsyncClient:
    store = StoreSettings(**settings)
    return AsyncClient(
        connect=lambda: AsyncPostgresJobs(url, settings=store), transactions=_AsyncTransactions(), settings=client
    )


def note_acknowledged(ledger: Ledger, id: str) -> None:
    """Log a job that got in by a way on which its id is not known before."""
    ledger.write("sent", id=id)
    ledger.write("acknowledged", id=id)


def post_until_answered(
    http: httpx.Client, path: str, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """Post the same again and again, as a careful caller does, while the server says that it may help."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            answer = http.post(path, json=body, headers=dict(headers or {}))
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
        else:
            if answer.status_code != 503 and not (answer.status_code == 409 and answer.json().get("retryable")):
                return answer
            assert time.monotonic() < deadline, answer.text
        time.sleep(TRY_AGAIN_S)
