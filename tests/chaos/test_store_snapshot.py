"""Fault 20: somebody holds a snapshot open, so that no dead row can be vacuumed away; somebody holds locks on rows."""

from __future__ import annotations

import contextlib
import json
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from goqueue.cli.dev.embedded import EmbeddedPostgres
from goqueue.client._sync.client import Client
from goqueue.model.job import NewJob
from tests.chaos.clients import sync_client
from tests.chaos.harness import APP, Chaos
from tests.chaos.ledger import VARIABLE, Entry, parse
from tests.support.database import temporary_database

RATIO_MIN = 0.4
"""Of the clean run's throughput. (Without the claim cursor it falls to less than a tenth, and further with time.)"""
PICK_UP_TIMES, PICK_UP_S = 3.0, 1.0
"""A lone job may be picked up so many times as late as in the clean run, or within a second."""
IN_FLIGHT = 2_000
BATCH = 500
LATE_S = 2.0
PICKED_UP_S = 5.0


class Mill:
    """A queue that never runs dry, a worker that empties it, and lone jobs in another queue beside it.

    In a database without the trail of the harness, whose triggers would cost more than what is measured.
    """

    def __init__(self, chaos: Chaos, url: str) -> None:
        self._chaos = chaos
        self._url = url
        self._sent = 0
        self._end = threading.Event()
        self._said = _Said(chaos.folder / "mill")
        self._feeder = threading.Thread(target=self._feed, name="feeder", daemon=True)
        variables = {"GOQUEUE_URL": url, VARIABLE: str(chaos.folder / "mill"), "GOQUEUE_WORKER_LEASE_S": "30"}
        self._worker = chaos.place.start("worker", APP, "--queues", "lone,default", "--concurrency", "50", **variables)
        self._worker.wait_for(r"worker +start ")

    def _feed(self) -> None:
        with sync_client(self._url) as client:
            while not self._end.is_set():
                if self._sent - self._said.ends() < IN_FLIGHT - BATCH:
                    client.enqueue_many(NewJob[object](kind="work") for _ in range(BATCH))
                    self._sent += BATCH
                else:
                    self._end.wait(0.02)

    def start(self) -> None:
        self._feeder.start()

    def measure(self, seconds: float) -> tuple[float, float]:
        """Jobs a second, and the pick-up of lone jobs (90th percentile)."""
        waits: list[float] = []
        with sync_client(self._url) as client:
            began, ended = time.monotonic(), self._said.ends()
            while time.monotonic() - began < seconds:
                waits.append(self._lone(client))
            took_s = time.monotonic() - began
        return (self._said.ends() - ended) / took_s, statistics.quantiles(waits, n=10)[-1]

    def _lone(self, client: Client) -> float:
        said = self._said.size_bytes()
        sent_at = time.monotonic()
        id = client.enqueue(NewJob[object](kind="work", queue="lone")).id
        self._sent += 1
        starts: list[float] = []

        def started() -> bool:
            starts.extend(e.at_s for e in self._said.since(said) if e.id == id and e.event == "start")
            return bool(starts)

        self._chaos.wait(started, "a lone job starts")
        return starts[0] - sent_at

    def stop(self) -> None:
        """Let it run dry: every job has been run, once."""
        self._end.set()
        self._feeder.join(60)
        self._chaos.wait(lambda: self._said.ends() >= self._sent, "the mill has run dry")
        assert self._worker.stop() == 0, self._worker.output
        assert self._said.ends() == self._sent
        with psycopg.connect(self._url) as connection:
            states = connection.execute("SELECT state, count(*) FROM goqueue.job_history GROUP BY state").fetchall()
        assert states == [(3, self._sent)]


class _Said:
    """What handlers say in a ledger of very many lines: never read twice as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.touch()
        self._counted = 0
        self._ends = 0
        self._lock = threading.Lock()

    def size_bytes(self) -> int:
        """So many bytes of whole lines there are."""
        with self._path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(begin := max(0, size - 4096))
            return size - len(file.read(size - begin).rpartition(b"\n")[2])

    def since(self, at: int) -> Iterator[Entry]:
        """The entries after so many bytes."""
        return parse(self._read(at).decode().splitlines())

    def ends(self) -> int:
        """How many handlers have ended so far."""
        with self._lock:
            new = self._read(self._counted)
            self._counted += len(new)
            self._ends += new.count(b'"event": "end"')
            return self._ends

    def _read(self, at: int) -> bytes:
        """Whole lines from here on."""
        with self._path.open("rb") as file:
            file.seek(at)
            whole, newline, _ = file.read().rpartition(b"\n")
        return whole + newline


@contextlib.contextmanager
def held_snapshot(url: str) -> Iterator[int]:
    """Hold a snapshot open; the process id of the session that does."""
    with psycopg.connect(url, application_name="holder") as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM goqueue.job")
        yield connection.info.backend_pid


@pytest.mark.timeout(400)
def test_20_a_snapshot_is_held_under_load(
    chaos: Chaos, postgres_server: EmbeddedPostgres, database_template: str
) -> None:
    with temporary_database(postgres_server, database_template) as url:
        mill = Mill(chaos, url)
        mill.start()
        mill.measure(0.5)  # warm
        clean_rate, clean_s = mill.measure(chaos.pick(2, 15))
        with held_snapshot(url) as pid:
            began = time.monotonic()
            chaos.wait(lambda: time.monotonic() - began > chaos.pick(1, 60), "it is held for long", 120)
            held_rate, held_s = mill.measure(chaos.pick(2, 15))
            if chaos.full:
                _doctor_names(chaos, url, pid)
        print(f"clean: {clean_rate:.0f} jobs/s, {clean_s * 1000:.0f} ms; held: {held_rate:.0f}, {held_s * 1000:.0f} ms")
        if chaos.full:  # the history has grown meanwhile, which costs by itself: what of it was the snapshot?
            _vacuum(url)
            print(f"released: {mill.measure(15)[0]:.0f} jobs/s")
        assert held_rate >= RATIO_MIN * clean_rate
        assert held_s <= max(PICK_UP_TIMES * clean_s, PICK_UP_S)
        mill.stop()
    chaos.check()


def _vacuum(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM goqueue.job")


def _doctor_names(chaos: Chaos, url: str, pid: int) -> None:
    done = chaos.place.run("doctor", "-o", "json", GOQUEUE_URL=url)
    assert done.returncode in (0, 1), done.stderr
    (found,) = (one for one in json.loads(done.stdout) if one["check"] == "oldest_snapshot")
    assert f"pid {pid} " in found["text"], found
    assert "holder" in found["text"]
    assert found["level"] == "warning", found
    assert str(pid) in found["do"], found


def test_20_late_commits_and_locked_rows_under_a_held_snapshot(chaos: Chaos) -> None:
    worker = chaos.worker("--concurrency", "8")
    with held_snapshot(chaos.url), chaos.flow("work", every_s=0.02, ms=5), ThreadPoolExecutor(16) as pool:
        late = [pool.submit(_late_commit, chaos) for _ in range(chaos.pick(6, 60))]
        for _ in range(chaos.pick(1, 10)):
            _locked_rows(chaos)
        waits = sorted(one.result(200) for one in late)
        print(f"picked up {waits[0]:.2f} to {waits[-1]:.2f} s after a late commit")
        assert waits[-1] < PICKED_UP_S
    chaos.settle()
    assert worker.stop() == 0, worker.output
    chaos.check()


def _late_commit(chaos: Chaos) -> float:
    """Insert a job, commit it two seconds later; how long after that it started."""
    with psycopg.connect(chaos.url) as connection, sync_client(chaos.url) as client:

        def send(jobs: Any) -> list[str]:
            ids = [job.id for job in client.enqueue_many(jobs, conn=connection)]
            time.sleep(LATE_S)
            connection.commit()
            return ids

        (id,) = chaos.submit(chaos.jobs("work"), send)
        committed_at = chaos.ledger.find("acknowledged", id=id)[0].at_s
    chaos.wait_started(id)
    return chaos.ledger.find("start", id=id)[0].at_s - committed_at


def _locked_rows(chaos: Chaos) -> None:
    """A user's open transaction has a waiting and a running job locked: nothing else waits for it."""
    gate = f"{chaos.random.random()}"
    waiting = chaos.enqueue_one("work", options={"delay_s": 0.5})
    running = chaos.enqueue_one("gated", name=gate)
    chaos.wait_started(running)
    with psycopg.connect(chaos.url) as connection:
        ids = [waiting, running]
        locked = connection.execute("SELECT id FROM goqueue.job WHERE id = ANY (%s::uuid[]) FOR UPDATE", [ids])
        assert locked.rowcount == 2
        chaos.open_gate(gate)
        chaos.wait(lambda: chaos.ledger.find("end", id=running), "the handler of the locked job returns")
        others = chaos.enqueue("work", 50)
        chaos.wait(lambda: all(chaos.is_final(id) for id in others), "the others are run", PICKED_UP_S * 2)
        assert not chaos.is_final(running)
        assert not chaos.ledger.find("start", id=waiting)
        connection.rollback()
    chaos.wait(lambda: chaos.is_final(running) and chaos.is_final(waiting), "what was locked goes on", PICKED_UP_S * 2)
    assert len(chaos.ledger.find("start", id=running)) == 1, "its outcome was kept until it could be written"
