"""Fault 18: clocks of workers, server and client that are wrong by ten minutes, either way. Only the store's counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.chaos.clients import note_acknowledged
from tests.chaos.harness import APPS, LEASE_S, Chaos, Server
from tests.chaos.replay import COMPLETED, RUNNING
from tests.support.processes import Process

OFF_S = 600.0
NEAR_S = 60.0
"""Nobody mistakes ten minutes for what a busy machine may add."""
DELAY_S = 1.5
WINDOW_S = 300.0

TELL = """
import json, time
from datetime import UTC, datetime
from goqueue.tasks.prepare import new_id
id = new_id().replace("-", "")
print(json.dumps([time.time(), datetime.now(UTC).timestamp(), int(id[:12], 16) / 1000]))
"""
ENQUEUE = """
import json, sys
import msgspec
from goqueue.model.job import NewJob, Unique
from goqueue.wiring import Client
jobs = []
for job in json.load(sys.stdin):
    unique = job.pop("unique", None)
    args = json.dumps(job.pop("args", {})).encode()
    jobs.append(NewJob(args=args, unique=msgspec.convert(unique, Unique | None), **job))
with Client() as client:
    print(json.dumps([job.id for job in client.enqueue_many(jobs)]))
"""

SWEPT = """
SELECT before, at FROM chaos.trail
WHERE place = 'job' AND (before ->> 'state')::int = %s AND (after ->> 'fence')::int > (before ->> 'fence')::int
"""


class Wrong:
    """Processes of one wrong clock."""

    def __init__(self, chaos: Chaos, off_s: float) -> None:
        self._chaos = chaos
        self._off_s = off_s
        path = os.pathsep.join((str(APPS / "wrong_clock"), chaos.place.env["PYTHONPATH"]))
        self.variables = {"PYTHONPATH": path, "GOQUEUE_TEST_CLOCK_S": f"{off_s}"}

    def is_wrong(self) -> None:
        """The shift works, wherever time may come from."""
        now_s = self._chaos.clock().timestamp()
        for told_s in self._python(TELL):
            assert abs(told_s - now_s - self._off_s) < NEAR_S

    def worker(self, *arguments: str) -> Process:
        return self._chaos.worker(*arguments, **self.variables)

    def server(self) -> Server:
        return self._chaos.server(**self.variables)

    def enqueue(self, *jobs: dict[str, Any]) -> list[str]:
        ids: list[str] = self._python(ENQUEUE, json.dumps(jobs))
        for id in ids:
            note_acknowledged(self._chaos.ledger, id)
        return ids

    def _python(self, script: str, stdin: str = "") -> Any:
        env = {**self._chaos.place.env, **self.variables}
        done = subprocess.run(
            [sys.executable, "-c", script], env=env, input=stdin, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def test_18_clocks_are_wrong(chaos: Chaos) -> None:
    both = (Wrong(chaos, OFF_S), Wrong(chaos, -OFF_S))
    for wrong in both:
        wrong.is_wrong()

    # What must not be early, and what must not end too soon: stored before anybody works.
    jobs: list[dict[str, Any]] = [
        {"kind": "work", "schedule_to_start_s": 60.0, "deadline_s": 120.0},
        {"kind": "work", "schedule_to_start_s": 1.0, "queue": "nobody"},
        {"kind": "work", "args": {"ms": int(3000 * LEASE_S)}},
        {"kind": "flaky", "args": {"failures": 2}},
        {"kind": "work", "unique": {"final_states": ["completed"], "window_s": WINDOW_S}},
    ]
    delays: list[dict[str, Any]] = [{"kind": "work", "delay_s": DELAY_S}] * chaos.pick(10, 100)
    stored: list[list[str]] = []
    for wrong in both:
        ids = wrong.enqueue(*jobs, *delays)
        if stored:  # one key: the second client is told who holds it
            assert ids[4] == stored[0][4]
        stored.append(ids)
        for id in ids:
            _is_near(chaos, chaos.row(id)["created_at"])

    workers = [wrong.worker("--concurrency", "4") for wrong in chaos.random.sample(both, 2)]
    server = chaos.random.choice(both).server()
    posted = _post(chaos, server)
    gated = chaos.enqueue("gated", 4, name="g")
    for id in gated:
        chaos.wait_started(id)
    # A worker of a wrong clock dies: its jobs are not taken back before its lease is over, and not ten minutes later.
    chaos.kill(*chaos.tree(workers[0]), workers[0])
    killed_at = chaos.clock()
    chaos.open_gate("g")
    chaos.settle(timeout_s=NEAR_S)
    for ids in stored:
        _nothing_was_early(chaos, ids)
    for before, at in chaos.sql(SWEPT, RUNNING):
        assert at >= killed_at, f"{before} was swept before anybody had died"
    assert chaos.row(posted)["state"] == COMPLETED
    # Terms count who won against whom: leaders of different clocks do not depose each other.
    assert all(term <= 6 for (term,) in chaos.sql("SELECT term FROM goqueue.leader"))
    assert server.stop() == 0
    assert workers[1].stop() == 0, workers[1].output
    chaos.check()


def _post(chaos: Chaos, server: Server) -> str:
    answer = server.http.post("/v1/jobs", json={"kind": "work", "delay_s": DELAY_S}, headers={"idempotency-key": "1"})
    again = server.http.post("/v1/jobs", json={"kind": "work", "delay_s": DELAY_S}, headers={"idempotency-key": "1"})
    assert (answer.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    job = answer.json()
    assert again.json() == job
    _is_near(chaos, job["created_at"])
    assert job["state"] == "scheduled"
    note_acknowledged(chaos.ledger, job["id"])
    return str(job["id"])


def _nothing_was_early(chaos: Chaos, ids: list[str]) -> None:
    patient, short, long, flaky, kept, *delayed = ids
    week = (chaos.clock() + timedelta(days=7)).date()
    for id in ids:
        row = chaos.row(id)
        for move in chaos.moves(id):
            if move.kind == "claim":
                assert move.before is not None
                assert move.step.at >= _at(move.before["run_at"]), f"{id} was claimed early"
        # The day on which it may go: a week after the store's today, whatever others think.
        if row["state"] == COMPLETED:
            assert abs((date.fromisoformat(row["expires_on"]) - week).days) <= 1
        for instant in (row["attempted_at"], row["finished_at"]):
            if instant is not None:
                _is_near(chaos, instant)
    for id in delayed:
        row = chaos.row(id)
        assert _between_s(row, "created_at", "run_at") == pytest.approx(DELAY_S, abs=0.1)
    assert chaos.row(patient)["state"] == COMPLETED
    expired = chaos.moves(short)[-1]
    assert expired.kind == "expire"
    assert expired.before is not None
    assert expired.step.at >= _at(expired.before["run_at"]) + timedelta(seconds=1)
    # Once, or killed with its worker.
    assert (chaos.row(long)["attempt"], chaos.row(long)["crashes"]) in ((1, 0), (2, 1))
    assert chaos.row(flaky)["attempt"] >= 3
    row = chaos.row(kept)
    ((until,),) = chaos.sql("SELECT until FROM goqueue.job_key WHERE job_id = %s", kept)
    assert (until - _at(row["finished_at"])).total_seconds() == pytest.approx(WINDOW_S, abs=1)


def _is_near(chaos: Chaos, instant: str) -> None:
    assert abs((_at(instant) - chaos.clock()).total_seconds()) < NEAR_S, instant


def _at(instant: object) -> datetime:
    return datetime.fromisoformat(str(instant)).astimezone(UTC)


def _between_s(row: dict[str, Any], first: str, second: str) -> float:
    return (_at(row[second]) - _at(row[first])).total_seconds()
