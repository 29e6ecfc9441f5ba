"""Fault 22: an upgrade while everything runs."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from goqueue.model.errors import StoreUnavailable
from goqueue.model.job import NewJob
from goqueue.store.postgres import migrate
from tests.chaos.conftest import MakeChaos
from tests.chaos.harness import APP, APPS, ROOT, Chaos, Send, Server, end_all
from tests.support.processes import Process

RELEASE = ROOT / "tests" / "migration" / "releases" / "schema1.tar.xz"
SINCE = ("GOQUEUE_WORKER_CANCEL_GRACE_S", "GOQUEUE_STORE_CRASH_DELAY_S")
"""Settings that the archived release does not have, and refuses."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it was when the schema had version 1."""
    folder = tmp_path_factory.mktemp("schema1")
    with tarfile.open(RELEASE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


def make_schema_1(url: str) -> None:
    """As that release did: its migration is the first of ours."""
    version, name, text = migrate.MIGRATIONS[0]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(migrate._BASE.encode())
        connection.execute(text.encode())
        connection.execute(
            "INSERT INTO goqueue.schema_migration (version, name, checksum) VALUES (%s, %s, %s)",
            (version, name, migrate.checksum(text)),
        )


def start_old(chaos: Chaos, package: Path, *arguments: str) -> Process:
    environment = {name: value for name, value in chaos.place.env.items() if name not in SINCE}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (APPS, ROOT, package)))
    process = Process(list(arguments), cwd=APPS, env=environment)
    chaos.place._started.append(process)
    return process


def through(server: Server) -> Send:
    """Enqueue over HTTP."""

    def send(jobs: Sequence[NewJob[Any]]) -> list[str]:
        bodies = ",".join(f'{{"id": "{job.id}", "kind": "{job.kind}", "args": {job.args.decode()}}}' for job in jobs)
        answer = server.http.post("/v1/jobs/batch", content=f'{{"jobs": [{bodies}]}}')
        if answer.status_code >= 500:
            raise StoreUnavailable(answer.text)
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        if any("job" not in result for result in results):
            raise StoreUnavailable(answer.text)
        return [str(result["job"]["id"]) for result in results]

    return send


def more_end(chaos: Chaos, count: int) -> None:
    """Wait until so many more handlers have come to their end."""
    wanted = len(chaos.ledger.find("end")) + count
    chaos.wait(lambda: len(chaos.ledger.find("end")) >= wanted, "jobs flow")


def test_22_a_rolling_upgrade(make_chaos: MakeChaos, package: Path, empty_database_url: str) -> None:
    """Old workers and an old server, a migration under load, new ones beside them, the old ones out: none is lost."""
    make_schema_1(empty_database_url)
    batch = 20
    with make_chaos(empty_database_url) as chaos:
        old_server = Server(start_old(chaos, package, "server", "--port", "0"))
        old = [start_old(chaos, package, "worker", APP, "--concurrency", "5") for _ in range(chaos.pick(1, 2))]
        for worker in old:
            worker.wait_for(r"worker +start ")
        with chaos.flow("work", send=through(old_server), ms=20) as by_old:
            more_end(chaos, batch)
            done = chaos.place.run("db", "migrate")
            assert done.returncode == 0, done.stderr
            more_end(chaos, batch)  # by the old ones, on the new schema
            new = chaos.worker("--concurrency", "5")
            server = chaos.server()
            with chaos.flow("work", send=through(server), ms=20) as by_new:
                more_end(chaos, batch)
                late = start_old(chaos, package, "worker", APP)
                assert late.end() != 0
                assert "schema_too_new" in late.output, late.output
                for worker in old:
                    assert worker.stop() == 0, worker.output
                more_end(chaos, batch)
        chaos.settle()
        assert by_old
        assert by_new
        old_server.stop()
        end_all([new, server.process])
        starts = [entry.id for entry in chaos.ledger.find("start")]
        assert len(starts) == len(set(starts)), "nothing has run twice: nobody was killed"
        chaos.check()
