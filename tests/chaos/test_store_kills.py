"""Fault 16: PostgreSQL itself is killed under load."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Sequence
from typing import Any

import psutil
import pytest

from goqueue.cli.dev.embedded import EmbeddedPostgres
from goqueue.model.job import NewJob
from tests.chaos.clients import post_until_answered
from tests.chaos.conftest import MakeChaos
from tests.chaos.harness import Chaos, Server, end_all, lives
from tests.chaos.replay import ENDS_OF_LEASES, SWEEPS, by_job, moves
from tests.chaos.trail import look
from tests.support.database import bin_dir, prepare_template, temporary_folder
from tests.support.processes import until

pytestmark = pytest.mark.postgres

BACK_S = 30.0
"""After a start PostgreSQL replays its log first; that is its own time."""


def kill_all(server: EmbeddedPostgres) -> None:
    """``kill -9`` the postmaster and every child of it, as when a machine is lost, and wait until none is left.

    A child that it makes meanwhile would live on, and might wait for ever for a lock that a dead one held.
    """
    postmaster = psutil.Process(server.pid)
    postmaster.suspend()
    everybody = [*postmaster.children(recursive=True), postmaster]
    for process in everybody:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    assert until(lambda: not any(lives(process) for process in everybody))


def test_16_postgresql_is_killed_under_load(make_chaos: MakeChaos) -> None:
    with (
        temporary_folder() as folder,
        # Durable: fsync and synchronous_commit are on.
        EmbeddedPostgres(folder / "server", bin_dir=bin_dir()) as postgres,
    ):
        url = postgres.url
        prepare_template(url)
        # A lease that outlives most outages: then what a worker says it has settled can be counted.
        with make_chaos(url, GOQUEUE_WORKER_LEASE_S="10", GOQUEUE_WORKER_LEASE_MARGIN_S="1") as chaos:
            assert chaos.sql("SHOW fsync") == [("on",)]
            assert chaos.sql("SHOW synchronous_commit") == [("on",)]
            workers = [chaos.worker("--concurrency", "8") for _ in range(2)]
            server = chaos.server()
            with chaos.flow("work", every_s=0.01, ms=5), chaos.flow("work", send=_by(server), every_s=0.01, ms=5):
                for _ in range(chaos.pick(2, 20)):
                    _goes_on(chaos)
                    time.sleep(chaos.random.uniform(0, 0.5))  # when it strikes is left to chance
                    kill_all(postgres)
                    postgres.start()
                    assert postgres.url == url
                _goes_on(chaos)
            chaos.settle()
            assert all(worker.popen.poll() is None for worker in workers), "a worker has ended"
            assert not any("restart" in worker.output for worker in workers), "a worker process has died"
            end_all([server.process, *workers])
            chaos.check()
            _no_acknowledged_outcome_is_missing(chaos, [worker.output for worker in workers])


def _by(server: Server) -> Any:
    def send(jobs: Sequence[NewJob[Any]]) -> list[str]:
        ids = []
        for job in jobs:
            body = {"kind": job.kind, "id": job.id, "args": {"ms": 5}}
            answer = post_until_answered(server.http, "/v1/jobs", body)
            assert answer.status_code in (200, 201), answer.text
            ids.append(str(answer.json()["id"]))
        return ids

    return send


def _goes_on(chaos: Chaos) -> None:
    """Wait until new jobs get in and are run."""
    seen = len(chaos.ledger.find("acknowledged"))
    chaos.wait(lambda: len(chaos.ledger.find("acknowledged")) > seen, "jobs get in", BACK_S)
    ended = len(chaos.ledger.find("end"))
    chaos.wait(lambda: len(chaos.ledger.find("end")) > ended, "jobs are run", BACK_S)


def _no_acknowledged_outcome_is_missing(chaos: Chaos, outputs: Sequence[str]) -> None:
    """What the workers were told has been taken is in the trail: it is written in the transactions themselves."""
    told = sum(int(count) for output in outputs for count in re.findall(r"stopped .*settled=(\d+)", output))
    story = [move for steps in by_job(look(chaos.url).steps).values() for move in moves(steps)]
    written = sum(move.kind in ENDS_OF_LEASES - SWEEPS for move in story)
    assert told > 0
    assert told <= written, f"workers were told of {told} outcomes, and {written} are there (seed {chaos.seed})"
