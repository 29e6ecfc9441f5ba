"""What is wrong with a request as such: routes, methods, types, sizes, time, foreign pages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import httpx
import pytest

from goqueue.api.auth import check_bind
from goqueue.model.errors import ConfigurationError
from goqueue.settings import ServerSettings
from tests.support.faulty_store import FaultyStore
from tests.unit.api.conftest import SETTINGS, client_of
from tests.unit.api.test_bad_input import is_problem, post

JOB = b'{"kind":"k"}'


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/job", "/v1/jobs/", "/v1/jobs/batch/x", "/livez/", "/v1/jobs/x/y/z", "/V1/jobs"]
)
async def test_unknown_routes(client: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        is_problem(await client.request(method, path), 404, "route_not_found")


@pytest.mark.parametrize(
    "method, path, allow",
    [
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("OPTIONS", "/v1/jobs", "GET, HEAD, POST"),
        ("GET", "/v1/jobs/batch", "POST"),
        ("PATCH", "/v1/jobs/x", "DELETE, GET, HEAD"),
        ("GET", "/v1/jobs/x/cancel", "POST"),
        ("POST", "/livez", "GET, HEAD"),
    ],
)
async def test_wrong_methods(client: httpx.AsyncClient, method: str, path: str, allow: str) -> None:
    response = await client.request(method, path)
    is_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allow


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data"},
        {"content-type": "application/jsonp"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/batch", "/v1/jobs/x/cancel", "/v1/jobs/x/retry"])
async def test_other_types_of_bodies(
    client: httpx.AsyncClient, store: FaultyStore, path: str, headers: dict[str, str]
) -> None:
    is_problem(await client.post(path, content=JOB, headers=headers), 415, "unsupported_media_type")
    assert store.batches == []


async def test_a_body_that_is_too_large(client: httpx.AsyncClient) -> None:
    large = b'{"kind":"k","args":{"a":"' + b"x" * SETTINGS.body_bytes_max + b'"}}'
    is_problem(await post(client, large), 413, "body_too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for i in range(0, len(large), 1000):
            yield large[i : i + 1000]

    response = await client.post("/v1/jobs", content=chunks(), headers={"content-type": "application/json"})
    is_problem(response, 413, "body_too_large")
    fits = large.replace(b"x" * 1000, b"", 1)
    assert (await post(client, fits)).status_code == 201


async def test_arguments_that_are_too_large(store: FaultyStore) -> None:
    async with client_of(store, ServerSettings()) as client:
        response = await post(client, b'{"kind":"k","args":{"a":"' + b"x" * (1024 * 1024) + b'"}}')
        assert is_problem(response, 422, "invalid_job")["pointer"] == "/args"


async def test_a_body_that_does_not_come(store: FaultyStore) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b'{"kind":'
        await asyncio.Event().wait()

    async with client_of(store, ServerSettings(request_timeout_s=0.1)) as client:
        response = await client.post("/v1/jobs", content=stalled(), headers={"content-type": "application/json"})
        is_problem(response, 408, "request_timeout")


async def test_a_bug_is_500_and_tells_nothing(
    client: httpx.AsyncClient, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    async def bug() -> None:
        raise ZeroDivisionError("password=hunter2")

    store.before_ping = bug
    with caplog.at_level(logging.ERROR, logger="goqueue.api"):
        response = await client.get("/readyz")
    is_problem(response, 500, "internal_error")
    assert "hunter2" not in response.text
    assert "hunter2" in caplog.text


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "10.0.0.1:8080", "127.0.0.1.evil.example", "[::2]:80"]
)
async def test_dns_rebinding_is_refused(client: httpx.AsyncClient, host: str) -> None:
    is_problem(await client.get("/v1/jobs", headers={"host": host}), 403, "permission_denied")
    is_problem(await post(client, JOB, host=host), 403, "permission_denied")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1:80", "127.1.2.3", "[::1]:8080", "app.localhost"]
)
async def test_loopback_hosts_are_served(client: httpx.AsyncClient, host: str) -> None:
    assert (await post(client, JOB, host=host)).status_code == 201


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", ""])
async def test_pages_of_other_sites_are_refused(client: httpx.AsyncClient, origin: str) -> None:
    is_problem(await post(client, JOB, origin=origin), 403, "permission_denied")
    is_problem(await client.post("/v1/jobs/x/cancel", headers={"origin": origin}), 403, "permission_denied")


async def test_our_own_pages_are_served(client: httpx.AsyncClient) -> None:
    assert (await post(client, JOB, origin="http://localhost")).status_code == 201


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])  # noqa: S104  refused here
def test_without_a_key_only_loopback_is_bound(host: str) -> None:
    with pytest.raises(ConfigurationError, match="no API key"):
        check_bind(host)
    check_bind(host, keys_exist=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_is_bound_without_a_key(host: str) -> None:
    check_bind(host)
