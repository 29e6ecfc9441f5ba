"""Every example of the guide runs, as it stands there: its tasks are one module, worked on by a real worker."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import msgspec
import pytest

from goqueue import Client
from goqueue import configuration as configuration_module
from goqueue.api.app import create_app
from goqueue.cli.main import run
from goqueue.engine.worker import Worker
from goqueue.model.job import JobRecord
from goqueue.settings import ServerSettings, WorkerSettings
from goqueue.store.postgres import PostgresStore
from goqueue.tasks.prepare import prepare
from goqueue.wiring import _Doors
from tests.support.processes import bench, until

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "guide.md").read_text("utf-8"), re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
CLIENT = [text for text in PYTHON if "client." in text]
LIFESPAN = [text for text in PYTHON if "lifespan" in text]
TASKS = [text for text in PYTHON if text not in CLIENT and text not in LIFESPAN]
COMMANDS = [
    line.removeprefix("$ ") for language, text in BLOCKS if language == "console" for line in text.splitlines() if line
]
DEADLINE_S = 60.0


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module that the guide's tasks make."""
    (tmp_path / "shop.py").write_text("\n\n".join(TASKS))
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in os.environ if name.startswith("GOQUEUE_")]:
        monkeypatch.delenv(name)
    importlib.invalidate_caches()
    yield importlib.import_module("shop")
    del sys.modules["shop"]
    configuration_module.configuration.cache_clear()


def decided(client: Client, kind: str, **args: object) -> JobRecord:
    """Wait until a job of this kind and arguments is decided for the time being, and return it."""
    return find(client, kind, args, lambda job: str(job.state) not in ("ready", "running"))


def find(client: Client, kind: str, args: dict[str, object], wanted: Callable[[JobRecord], bool]) -> JobRecord:
    """Wait for a job that is as wanted, and return it."""

    def look() -> list[JobRecord]:
        records = (job.known for job in client.iterate(kinds=[kind]))
        found = (one for one in records if one and args.items() <= json.loads(bytes(one.args)).items())
        return [one for one in found if wanted(one)]

    assert until(look), (kind, args)
    return look()[0]


def test_it_runs_from_the_first_line_to_the_last(
    database_url: str,
    shop: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOQUEUE_URL", database_url)
    monkeypatch.setenv("GOQUEUE_CLIENT_WAIT_MAX_S", "0.05")
    configuration_module.configuration.cache_clear()
    (start,) = [line for line in COMMANDS if line.startswith("goqueue worker")]
    with bench(tmp_path, GOQUEUE_URL=database_url) as place, Client(shop.app) as client:
        worker = place.start(*shlex.split(start)[1:])
        names: dict[str, Any] = {**vars(shop), "client": client}
        for text in CLIENT[:-1]:
            exec(text, names)  # noqa: S102  the guide's own text
        assert capsys.readouterr().out.splitlines() == ["cat.png at 320", "True", "3"]
        _look_at_the_jobs(client)
        find(client, "crunch", {"rows": 1_000_000}, lambda job: job.progress is not None)
        names["endless"].cancel()
        assert str(decided(client, "crunch", rows=1_000_000).state) == "cancelled"
        for line in COMMANDS:
            if line.startswith("goqueue ") and line != start:
                _command(line, client)
        capsys.readouterr()
        exec(CLIENT[-1], names)  # noqa: S102  the guide's own text
        assert re.fullmatch(r"\d+ of \d+\n", capsys.readouterr().out)
        assert worker.stop() == 0


def _look_at_the_jobs(client: Client) -> None:
    mail = decided(client, "send", to="ada@example.com")
    assert (str(mail.state), mail.max_attempts, mail.queue) == ("retrying", 5, "mail")
    assert 25 < (mail.run_at - mail.errors[-1].at).total_seconds() < 35
    wrong = decided(client, "send", to="nobody")
    assert (str(wrong.state), wrong.reason) == ("dead", "not_retryable")
    bob = decided(client, "send", to="bob@example.com")
    assert bob.max_attempts == 3
    assert decided(client, "fetch").reason == "not needed any more"
    assert str(decided(client, "resize", image="dog.png").state) == "cancelled"
    moved = find(client, "resize", {"image": "fox.png"}, lambda job: str(job.state) == "scheduled")
    assert moved.unique_key == "fox"
    assert decided(client, "checksum", numbers=[1, 2, 3]).result == msgspec.Raw(b"6")
    assert decided(client, "resize", image="1.png").result is not None
    told = {order: decided(client, "ship", order=order) for order in ("unpaid", "withdrawn", "lost", "busy", "paid")}
    assert {order: (str(job.state), job.reason) for order, job in told.items()} == {
        "unpaid": ("scheduled", "not paid yet"),
        "withdrawn": ("cancelled", "the customer has withdrawn it"),
        "lost": ("dead", "there is no such order"),
        "busy": ("retrying", None),
        "paid": ("completed", None),
    }
    assert told["unpaid"].attempt == 0


def _command(line: str, client: Client) -> None:
    (dead,) = client.find(states=["dead"], page_size=1).jobs
    configuration_module.configuration.cache_clear()
    words = [dead.id if word == "ID" else word for word in shlex.split(line)[1:]]
    code = run(_Doors(), words)
    # The server of the tests is not durable, and the doctor says so.
    assert code == (1 if words == ["doctor"] else 0), line


def test_what_takes_too_long_has_failed(database_url: str, shop: ModuleType) -> None:
    asyncio.run(_work(shop.app, database_url, shop.fetch.job("https://example.com")))
    with Client(shop.app, database_url) as client:
        (job,) = client.find(kinds=["fetch"]).jobs
        assert job.record().errors[-1].type == "TimeoutError"


def test_the_lifespan(database_url: str) -> None:
    names: dict[str, Any] = {"__name__": "till"}
    exec(LIFESPAN[0], names)  # noqa: S102  the guide's own text
    asyncio.run(_work(names["till"], database_url, names["price"].job(21)))
    with Client(names["till"], database_url) as client:
        (job,) = client.find(kinds=["price"]).jobs
        assert job.result(timeout_s=5) == 42


async def test_the_request(database_url: str, shop: ModuleType) -> None:
    (request,) = [text for language, text in BLOCKS if language == "console" and "curl" in text]
    found = re.search(r"-d '(.*)'", request)
    assert found is not None
    store = PostgresStore(database_url)
    await store.open()
    try:
        transport = httpx.ASGITransport(create_app(store, ServerSettings()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            answer = await http.post("/v1/jobs", content=found[1], headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()["max_attempts"]) == (201, 5)
            await Worker(shop.app, store, WorkerSettings()).run_until_idle()
            assert (await http.get(f"/v1/jobs/{answer.json()['id']}")).json()["result"] == "owl.png at 640"
    finally:
        await store.close()


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "toml"])
def test_the_settings_are_settings(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    configuration = configuration_module.load({}, tmp_path)
    given = tomllib.loads(text)["tool"]["goqueue"]
    told = {value.name for value in configuration.values if value.source.endswith("pyproject.toml")}
    names = {
        f"{group}.{name}" if isinstance(table, dict) else group
        for group, table in given.items()
        for name in (table if isinstance(table, dict) else [""])
    }
    assert told == names


def test_every_block_is_run() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "console", "toml"}
    assert (len(TASKS), len(LIFESPAN), len(CLIENT)) == (5, 1, 7)
    assert {line.split()[0] for line in COMMANDS} == {"curl", "goqueue", "-d"}


async def _work(app: Any, url: str, job: Any) -> None:
    store = PostgresStore(url)
    await store.open()
    try:
        await store.enqueue([prepare(job)])
        async with asyncio.timeout(DEADLINE_S):
            await Worker(app, store, WorkerSettings()).run_until_idle()
    finally:
        await store.close()
