"""The server on a real socket: bounds of connections, stopping."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from goqueue.api.server import serve
from goqueue.model.errors import ConfigurationError
from goqueue.settings import ServerSettings
from tests.support.faulty_store import FaultyStore, Gate
from tests.unit.api.test_bad_input import is_problem

SETTINGS = ServerSettings(port=0, header_bytes_max=2048, header_timeout_s=0.3, grace_s=2.0)
WAIT_S = 10.0


@asynccontextmanager
async def served(
    store: FaultyStore, settings: ServerSettings = SETTINGS, *, stop: asyncio.Event | None = None
) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
    """Run a server; yield its url and its task."""
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(store, settings, ready=url.set_result, stop=stop))
    try:
        async with asyncio.timeout(WAIT_S):
            waiting: list[asyncio.Future[str] | asyncio.Future[None]] = [task, url]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            yield await url, task
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=WAIT_S)


async def talk(url: str, *parts: bytes) -> bytes:
    """Send bytes as they are; return all that comes back until the server closes."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(WAIT_S):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_it_serves(store: FaultyStore) -> None:
    async with served(store) as (url, _), httpx.AsyncClient(base_url=url) as client:
        response = await client.post("/v1/jobs", json={"kind": "k"})
        assert response.status_code == 201
        assert "server" not in response.headers
        assert "date" in response.headers
        assert (await client.get(f"/v1/jobs/{response.json()['id']}")).status_code == 200
        head = await client.head("/v1/jobs")
        assert (head.status_code, head.content) == (200, b"")
        is_problem(await client.get("/nothing"), 404, "route_not_found")
        deleted = await client.delete(f"/v1/jobs/{response.json()['id']}")
        assert deleted.status_code == 204


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /%ff\xff HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
    ids=repr,
)
async def test_what_is_not_http(store: FaultyStore, sent: bytes) -> None:
    async with served(store) as (url, _):
        head, _, body = (await talk(url, sent)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in head
        assert b'"code":"bad_request"' in body


async def test_headers_that_are_too_large(store: FaultyStore) -> None:
    async with served(store) as (url, _):
        parts = [b"GET /livez HTTP/1.1\r\nhost: localhost\r\n"] + [b"x-a: " + b"a" * 500 + b"\r\n"] * 3
        answer = await talk(url, *parts, b"x-endless: " + b"a" * 4000)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b'"code":"headers_too_large"' in answer


CHUNKED = (
    b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
)


async def talk_slowly(url: str, *parts: bytes) -> bytes:
    """Like `talk`, but the server has time to read each part by itself; once it has closed, no more is sent."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    answer = b""

    async def listen() -> None:
        nonlocal answer
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                answer += data

    listening = asyncio.create_task(listen())
    try:
        with suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.wait([listening], timeout=0.005)  # nothing tells that the other side has read
                if listening.done():
                    break
        await asyncio.wait_for(listening, WAIT_S)
    finally:
        listening.cancel()
        writer.close()
    return answer


@pytest.mark.parametrize(
    "start, part",
    [
        (b'c\r\n{"kind":"k"}\r\n0\r\n', b"x-a: " + b"a" * 500 + b"\r\n"),
        (b'c\r\n{"kind":"k"}\r\n0\r\nx-endless: ', b"a" * 500),
        (b'c\r\n{"kind":"k"}\r\n0\r\n', b"".join(b"%d:\r\n" % i for i in range(100, 200))),
        (b"c;extension=", b"a" * 500),
    ],
    ids=["trailers", "one trailer", "short trailers", "chunk extension"],
)
async def test_trailers_that_are_too_large(store: FaultyStore, start: bytes, part: bytes) -> None:
    async with served(store) as (url, _):
        answer = await talk_slowly(url, CHUNKED + start, *[part] * 6)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b'"code":"headers_too_large"' in answer
    assert store.batches == []


async def test_trailers_of_a_request_that_has_its_answer(store: FaultyStore) -> None:
    async with served(store) as (url, _):
        head = b"GET /livez HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
        answer = await talk_slowly(url, head, *[b"x-a: " + b"a" * 500 + b"\r\n"] * 8)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_many_small_chunks_are_no_trailers(store: FaultyStore) -> None:
    body = b'{"kind":"k","args":{"a":"' + b"x" * 1500 + b'"}}'
    async with served(store) as (url, _):
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        parts = [chunks[i : i + 1000] for i in range(0, len(chunks), 1000)]
        # Nor are they a head: the second request of the connection starts to count anew.
        answer = await talk_slowly(url, CHUNKED, *parts, b"0\r\nx-sum: 1\r\n\r\n", CHUNKED + b"zz\r\n")
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert answer.count(b"HTTP/1.1 400 ") == 1


async def test_a_trailer_is_no_header(store: FaultyStore) -> None:
    async with served(store) as (url, _):
        body = b'c\r\n{"kind":"k"}\r\n0\r\nhost: evil.example\r\norigin: https://evil.example\r\n\r\n'
        answer = await talk_slowly(url, CHUNKED + body, b"nonsense\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 201 ")


async def test_what_clients_send_wrong_is_not_logged(store: FaultyStore, caplog: pytest.LogCaptureFixture) -> None:
    async with served(store) as (url, _), httpx.AsyncClient(base_url=url) as client:
        await talk(url, b"nonsense\r\n\r\n")
        upgrade = {"connection": "upgrade", "upgrade": "websocket"}
        assert (await client.get("/livez", headers=upgrade)).status_code == 200
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_headers_that_do_not_come(store: FaultyStore) -> None:
    async with served(store) as (url, _):
        slow, silent = await asyncio.gather(talk(url, b"GET /livez HTTP/1.1\r\nhost: loc"), talk(url))
        assert slow.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"request_timeout"' in slow
        assert silent == b""


async def test_slow_headers_of_a_second_request(store: FaultyStore) -> None:
    async with served(store) as (url, _):
        answer = await talk(url, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\nGET /livez HT")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in answer


async def test_a_large_body_is_refused_before_it_is_read(store: FaultyStore) -> None:
    async with served(store) as (url, _):
        head = b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        answer = await talk(url, head, b"content-length: 999999999\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer


async def test_a_stop_lets_requests_finish(store: FaultyStore) -> None:
    gate, stop = Gate(), asyncio.Event()
    store.before_enqueue = gate.pass_through
    async with served(store, stop=stop) as (url, task), httpx.AsyncClient(base_url=url) as client:
        request = asyncio.create_task(client.post("/v1/jobs", json={"kind": "k"}))
        await gate.wait_for(1)
        stop.set()
        while not await refuses(url):  # noqa: ASYNC110  nothing tells that a listener has closed but trying it
            await asyncio.sleep(0.01)
        gate.open()
        assert (await request).status_code == 201
        await task
    assert (await store.get("default", [(await request).json()["id"]]))[0] is not None


async def test_a_stop_does_not_wait_for_ever(store: FaultyStore) -> None:
    gate, stop = Gate(), asyncio.Event()
    store.before_enqueue = gate.pass_through
    settings = ServerSettings(port=0, grace_s=0.1)
    async with served(store, settings, stop=stop) as (url, task), httpx.AsyncClient(base_url=url) as client:
        request = asyncio.create_task(client.post("/v1/jobs", json={"kind": "k"}))
        await gate.wait_for(1)
        stop.set()
        await task
        request.cancel()
        await asyncio.wait([request])


async def test_without_a_stop_event_it_heeds_signals(store: FaultyStore) -> None:
    async with served(store) as (_, task):
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_cancelling_stops_it(store: FaultyStore) -> None:
    async with served(store, stop=asyncio.Event()) as (url, task):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await refuses(url)


async def test_a_port_in_use(store: FaultyStore) -> None:
    async with served(store) as (url, _):
        settings = ServerSettings(port=urlsplit(url).port or 0)
        with pytest.raises(ConfigurationError, match="cannot listen"):
            await serve(store, settings, stop=asyncio.Event())


async def test_other_addresses_need_a_key(store: FaultyStore) -> None:
    with pytest.raises(ConfigurationError, match="no API key"):
        await serve(store, ServerSettings(host="0.0.0.0", port=0), stop=asyncio.Event())  # noqa: S104  refused


async def refuses(url: str) -> bool:
    """Does nobody listen there any more?"""
    address = urlsplit(url)
    try:
        _, writer = await asyncio.open_connection(address.hostname, address.port)
    except ConnectionError:
        return True
    writer.close()
    return False
