"""The whole line: a real server and real workers as processes, on a real PostgreSQL."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from goqueue.cli.dev.embedded import EmbeddedPostgres
from goqueue.wiring import Client
from tests.support.database import bin_dir, handed_out, pooled, prepare_template, temporary_folder
from tests.support.processes import Bench, Process, bench, until

pytestmark = pytest.mark.postgres

APPS = Path(__file__).parents[1] / "support" / "apps"
APP = "line_app:app"
JOBS = 900
SWEEP_S = "0.3"


class Line:
    """A bench, a server on it, and what its workers did."""

    def __init__(self, place: Bench, url: str, effects: Path) -> None:
        self.place = place
        self.url = url
        self._effects = effects
        self.server = place.start("server", "--port", "0")
        address = self.server.wait_for(r"listen .*url=(http://\S+)")[1]
        self.http = httpx.Client(base_url=address, timeout=30.0)

    def worker(self, *arguments: str) -> Process:
        process = self.place.start("worker", APP, *arguments)
        process.wait_for(r"worker +start ")
        return process

    def submit(self, kind: str, **args: object) -> str:
        answer = self.http.post("/v1/jobs", json={"kind": kind, "args": args})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def submit_many(self, jobs: list[dict[str, object]]) -> list[str]:
        answer = self.http.post("/v1/jobs/batch", json={"jobs": jobs})
        assert answer.status_code == 200, answer.text
        return [str(result["job"]["id"]) for result in answer.json()["results"]]

    def job(self, id: str) -> dict[str, object]:
        record: dict[str, object] = self.http.get(f"/v1/jobs/{id}").json()
        return record

    def is_completed(self, id: str) -> bool:
        answer = self.http.get(f"/v1/jobs/{id}")
        return answer.status_code == 200 and answer.json()["state"] == "completed"

    def ends_completed(self, id: str) -> bool:
        return until(lambda: self.is_completed(id))

    def effects(self) -> list[list[str]]:
        """Whole lines only: the last one may be half written."""
        text = self._effects.read_text() if self._effects.exists() else ""
        return [line.split() for line in text.rpartition("\n")[0].splitlines()]

    def has_effects(self, count: int) -> bool:
        return until(lambda: len(self.effects()) >= count)

    def close(self) -> None:
        self.http.close()


@pytest.fixture
def place(database_url: str, tmp_path: Path) -> Iterator[Bench]:
    variables = {
        "GOQUEUE_URL": database_url,
        "GOQUEUE_TEST_EFFECTS": str(tmp_path / "effects"),
        "GOQUEUE_DUTIES_SWEEP_S": SWEEP_S,
        "GOQUEUE_DUTIES_LEADER_TTL_S": "2",
    }
    with bench(APPS, **variables) as one:
        yield one


@pytest.fixture
def line(place: Bench, database_url: str, tmp_path: Path) -> Iterator[Line]:
    one = Line(place, database_url, tmp_path / "effects")
    yield one
    one.close()
    assert one.server.stop() == 0, one.server.output


def test_from_http_to_a_result(line: Line) -> None:
    worker = line.worker()
    ids = {
        line.submit("add", x=2, y=40): 42,
        line.submit("work_in_thread", number=7): 7,
        line.submit("work_in_process", number=21): 42,
    }
    for id, result in ids.items():
        assert line.ends_completed(id), line.job(id)
        record = line.job(id)
        assert (record["result"], record["attempt"], record["errors"]) == (result, 1, [])
    with Client(url=line.url) as client:  # the same job through the library
        assert client.get(next(iter(ids))).result(timeout_s=10) == 42
    assert worker.stop() == 0, worker.output


def test_a_graceful_stop_under_load_loses_nothing_and_repeats_nothing(line: Line) -> None:
    jobs: list[dict[str, object]] = [
        {"kind": "work", "args": {"number": n, "sleep_s": 0.5}}  # a stop that comes seconds late still shows it
        if n % 3
        else {"kind": "work_in_thread", "args": {"number": n}}
        for n in range(JOBS)
    ]
    ids = line.submit_many(jobs)
    for round_, processes in enumerate(("1", "2")):
        worker = line.worker("--concurrency", "20", "--processes", processes)
        wanted = len(line.effects()) + 100
        assert line.has_effects(wanted)
        if round_ == 0:
            worker.send(signal.SIGTERM)
        else:
            os.killpg(worker.pid, signal.SIGINT)  # Ctrl-C: every process of the group gets it
        assert worker.end() == 0, worker.output
        done = len(line.effects())
        assert wanted <= done < JOBS, "the stop came too late to show anything"
        # Nothing is held by the worker that has left: all is either final or waiting.
        states = Counter(str(line.job(id)["state"]) for id in ids)
        assert states == {"completed": done, "ready": JOBS - done}
    worker = line.worker("--concurrency", "200")
    assert line.has_effects(JOBS)
    assert until(lambda: all(line.is_completed(id) for id in ids))
    assert worker.stop() == 0, worker.output
    assert sorted(words[1] for words in line.effects()) == sorted(ids)
    assert {words[2] for words in line.effects()} == {"1"}, "handing back costs no attempt"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_a_worker_starts_is_heard(line: Line, number: int) -> None:
    """Whatever it is about to do: open its store, register, claim for the first time."""
    for pause_s in (0.0, 0.2, 0.3, 0.4):
        worker = line.place.start("worker", APP)
        worker.wait_for(r"worker +spawn ")
        time.sleep(pause_s)  # no line tells where it is before it works: wherever, the stop must be heard
        worker.send(number)
        assert worker.end() == 0, worker.output
        assert " kill " not in worker.output


def test_a_killed_worker_process_is_replaced_and_its_job_runs_again(line: Line, tmp_path: Path) -> None:
    worker = line.worker()
    id = line.submit("gated", gate=str(tmp_path / "gate"))
    assert line.has_effects(1)
    psutil.Process(int(line.effects()[0][3])).kill()
    worker.wait_for(r"worker +restart .*exit_code=-9")
    (tmp_path / "gate").touch()
    assert line.ends_completed(id), line.job(id)
    record = line.job(id)
    # The supervisor has reported the death: nobody waited for the lease of 30 s to end.
    assert (record["result"], record["attempt"], record["crashes"]) == (2, 2, 1)
    assert worker.stop() == 0, worker.output


def test_after_a_kill_of_the_whole_worker_its_job_runs_again(line: Line, tmp_path: Path) -> None:
    short = {"GOQUEUE_WORKER_LEASE_S": "1.5", "GOQUEUE_WORKER_BEAT_S": "0.3", "GOQUEUE_WORKER_LEASE_MARGIN_S": "0.2"}
    worker = line.place.start("worker", APP, **short)
    worker.wait_for(r"worker +start ")
    id = line.submit("gated", gate=str(tmp_path / "gate"))
    assert line.has_effects(1)
    child = psutil.Process(int(line.effects()[0][3]))
    for process in (psutil.Process(worker.pid), child):  # the supervisor first: it must not see the death
        process.kill()
    worker.end()
    (tmp_path / "gate").touch()
    other = line.place.start("worker", APP, **short)
    assert line.ends_completed(id), line.job(id)
    assert (line.job(id)["result"], line.job(id)["crashes"]) == (2, 1)
    assert other.stop() == 0, other.output


def test_a_worker_whose_supervisor_is_killed_hands_over_and_leaves(line: Line, tmp_path: Path) -> None:
    worker = line.worker()
    id = line.submit("gated", gate=str(tmp_path / "gate"))
    assert line.has_effects(1)
    child = psutil.Process(int(line.effects()[0][3]))
    worker.send(signal.SIGKILL)
    worker.popen.wait(30)
    (tmp_path / "gate").touch()  # it is within its grace period: what runs is finished
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()
    assert line.is_completed(id)
    assert line.job(id)["attempt"] == 1


def test_without_queues_a_worker_takes_all_that_its_tasks_name(line: Line) -> None:
    worker = line.place.start("worker", APP)
    assert worker.wait_for(r"worker +start .*queues=(\(.*\))")[1] == "('default', 'elsewhere')"
    (id,) = line.submit_many([{"kind": "in_a_queue_of_its_own", "queue": "elsewhere"}])
    assert line.ends_completed(id)
    assert worker.stop() == 0, worker.output


@pytest.mark.parametrize("kind", ["endless", "endless_in_process"])
def test_what_comes_over_http_has_the_timeout_and_the_retry_policy_of_its_task(line: Line, kind: str) -> None:
    worker = line.worker()
    sent = line.submit(kind)
    assert until(lambda: line.job(sent)["errors"])
    job: dict[str, Any] = line.job(sent)
    (error,) = job["errors"]
    assert (job["state"], job["max_attempts"], error["type"]) == ("retrying", 20, "TimeoutError")
    wait = datetime.fromisoformat(job["run_at"]) - datetime.fromisoformat(error["at"])
    assert round(wait.total_seconds()) == 3600
    assert job["timeout_s"] is None, "the job itself is as it was sent"
    assert worker.stop() == 0, worker.output


def test_an_application_that_cannot_be_imported_ends_the_worker(line: Line, tmp_path: Path) -> None:
    (tmp_path / "bad_app.py").write_text("from goqueue import GoQueue\nraise KeyError('deep')\n")
    done = line.place.run("worker", "bad_app:app", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert 'bad_app.py", line 2' in done.stderr
    assert "KeyError: 'deep'" in done.stderr


def test_two_queues_with_slots_of_their_own(line: Line) -> None:
    worker = line.place.start("worker", APP, "--queues", "mail=3,default")
    started = {worker.wait_for(r"worker +start .*queues=(\(.*\)) concurrency=(\d+)").groups() for _ in range(2)}
    assert started == {("('default',)", "50"), ("('mail',)", "3")}
    ids = line.submit_many(
        [{"kind": "add", "args": {"x": 1, "y": 1}, "queue": queue} for queue in ("mail", "default", "other")]
    )
    assert until(lambda: all(line.is_completed(id) for id in ids[:2]))
    assert line.job(ids[2])["state"] == "ready"
    assert worker.stop() == 0, worker.output


def test_a_database_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    with (
        temporary_folder() as folder,
        EmbeddedPostgres(folder / "server", bin_dir=bin_dir(), durable=False) as postgres,
        pooled(postgres),
    ):
        prepare_template(postgres.url)
        url = handed_out(postgres)
        with bench(APPS, GOQUEUE_URL=url, GOQUEUE_TEST_EFFECTS=str(tmp_path / "effects")) as place:
            line = Line(place, url, tmp_path / "effects")
            worker = line.worker()
            first = line.submit("add", x=1, y=1)
            assert line.ends_completed(first)

            postgres.stop()
            answer = line.http.post("/v1/jobs", json={"kind": "add", "args": {"x": 1, "y": 1}})
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["retryable"] is True
            assert until(lambda: line.http.get("/readyz").status_code == 503)
            assert line.http.get("/livez").status_code == 200
            worker.wait_for("the store is unavailable")

            postgres.start()
            assert until(lambda: line.http.get("/readyz").status_code == 200)
            second = line.submit("add", x=20, y=22)
            assert line.ends_completed(second), worker.output
            assert line.job(second)["result"] == 42

            # Also from the start: neither needs the database to be there.
            postgres.stop()
            late = place.start("worker", APP)
            late.wait_for("the store is unavailable")
            server = place.start("server", "--port", "0")
            server.wait_for("the store is unavailable")
            postgres.start()
            late.wait_for("worker +start ")
            server.wait_for("resume")
            for process in (worker, late, server, line.server):
                assert process.stop() == 0, process.output
            line.close()
