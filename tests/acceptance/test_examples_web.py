"""The examples for FastAPI, Litestar, Flask and a plain script: a request goes in, a worker runs the job."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from goqueue.contrib.starlette import get_client, lifespan
from goqueue.model.errors import NotConfigured
from goqueue.wiring import AsyncClient, Client
from tests.support.asgi import served
from tests.support.examples import EXAMPLES, example
from tests.support.processes import until


def test_fastapi(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with example("fastapi_orders", "jobs", database_url, tmp_path, monkeypatch) as module:
        with served(module.api) as http:
            answer = http.post("/orders", json={"email": "ada@example.com"})
            assert answer.status_code == 201, answer.text
            path = f"/jobs/{answer.json()['job']}"
            assert until(lambda: http.get(path).json()["state"] == "completed")
            assert http.get(path).json()["result"] == "order 1 confirmed to ada@example.com"
            refused = http.post("/orders", json={"email": "nobody"})
            assert (refused.status_code, refused.json()) == (422, {"detail": "that is no address"})
        with Client(url=database_url) as client:
            assert len(list(client.iterate())) == 1  # the job of the refused order was rolled back with it


def test_litestar(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        example("litestar_thumbnails", "jobs", database_url, tmp_path, monkeypatch) as module,
        served(module.api) as http,
    ):
        answer = http.post("/thumbnails", params={"image": "cat.png"})
        assert (answer.status_code, answer.json()) == (201, {"thumbnail": "cat-128.png"})


def test_flask(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with example("flask_reports", "jobs", database_url, tmp_path, monkeypatch) as module:
        http = module.app.test_client()
        id = http.post("/reports/2026").json["job"]
        assert until(lambda: http.get(f"/reports/{id}").json["state"] == "completed")
        assert http.get(f"/reports/{id}").json["result"] > 0
        module.client.close()


def test_a_script(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with example("script", "app", database_url, tmp_path, monkeypatch) as module:
        module.main(["script.py", "flask_reports.py"])
    words = {path: len((EXAMPLES / path).read_text("utf-8").split()) for path in ("script.py", "flask_reports.py")}
    assert capsys.readouterr().out.splitlines() == [f"{number:8} {path}" for path, number in words.items()]


def test_the_examples_do_nothing_when_they_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOQUEUE_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    for name in ("fastapi_orders", "litestar_thumbnails", "flask_reports", "script"):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=name)
        sys.modules.pop(name, None)


# -- the helpers by themselves --------------------------------------------------------------------------


async def _who(request: Request) -> PlainTextResponse:
    return PlainTextResponse(type(await get_client(request)).__name__)


def test_starlette_has_the_client_as_state_beside_its_own() -> None:
    from contextlib import asynccontextmanager

    seen: list[Any] = []

    @asynccontextmanager
    async def own(server: Starlette) -> Any:
        seen.append(server)
        yield {"mine": 1}
        seen.append("left")

    async def show(request: Request) -> PlainTextResponse:
        seen.append((request.state.mine, request.state.goqueue))
        return await _who(request)

    server = Starlette(routes=[Route("/", show)], lifespan=lifespan(url="postgresql://127.0.0.1:1/x", around=own))
    with served(server) as http:
        assert http.get("/").text == "AsyncClient"
    client = seen[1][1]
    assert seen == [server, (1, client), "left"]
    assert isinstance(client, AsyncClient)
    assert client._closed


def test_without_the_lifespan_it_says_what_to_do() -> None:
    server = Starlette(routes=[Route("/", _who)])
    said: list[BaseException] = []

    async def catching(scope: Any, receive: Any, send: Any) -> None:
        try:
            await server(scope, receive, send)
        except NotConfigured as error:
            said.append(error)
            raise

    with served(catching, lifespan="off") as http:
        assert http.get("/").status_code == 500
    assert "lifespan=goqueue.contrib.fastapi.lifespan" in str(said[0])
