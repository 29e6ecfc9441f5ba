"""Many jobs on a real PostgreSQL: a feed that is killed and resumed, batches in a real worker, waiting for all."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from goqueue.model.job import NewJob, OnConflict, Unique
from goqueue.model.state import JobState
from goqueue.tasks.prepare import new_id
from goqueue.wiring import AsyncClient, Client
from tests.support.apps import batch_app
from tests.support.processes import bench, until

pytestmark = pytest.mark.postgres

APPS = Path(__file__).parents[1] / "support" / "apps"
DEADLINE_S = 60.0
ROWS = 12_000


def feed(url: str, run_id: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(APPS / "bulk_feed.py"), run_id, str(ROWS)]
    env = {**os.environ, "GOQUEUE_URL": url}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, cwd=APPS)


def stored(url: str) -> list[int]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT args::text FROM goqueue.job ORDER BY id").fetchall()
    return [json.loads(row[0])["n"] for row in rows]


def test_a_feed_that_is_killed_anywhere_and_resumed_stores_each_job_once(database_url: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance, run_id = random.Random(seed), new_id()
    for kill_at in (1_000, 4_000, 9_000):
        process = feed(database_url, run_id)
        assert process.stdout is not None
        with process:
            for line in process.stdout:
                if int(line) >= kill_at + 1_000 * chance.randrange(2):
                    process.kill()
                    break
            assert process.wait(DEADLINE_S) != 0
        assert kill_at <= len(stored(database_url)) < ROWS
    with feed(database_url, run_id) as process:
        assert process.stdout is not None
        *_, last = process.stdout.read().splitlines()
        assert process.wait(DEADLINE_S) == 0
    word, new, old = last.split()
    assert (word, int(new) + int(old)) == ("end", ROWS)
    assert int(old) >= 9_000
    assert stored(database_url) == list(range(ROWS)), "each once, and ids in the order of the jobs"


def test_a_run_knows_its_jobs_also_when_they_are_history_or_have_keys(database_url: str) -> None:
    run_id = new_id()
    keyed = [
        NewJob[object](kind="k", unique=Unique(key=str(n % 3), on_conflict=OnConflict.RETURN), args=b'{"n":%d}' % n)
        for n in range(5)
    ]
    with Client(url=database_url) as client:
        first = client.enqueue_many(keyed, run_id=run_id, handles=False)
        assert (first.stored, first.deduplicated) == (3, 2)
        client.cancel_many(kinds=["k"], limit=1)  # the newest: its row is history, its key is free
        again = client.enqueue_many(keyed, run_id=run_id, handles=False)
        assert (again.stored, again.existing, again.deduplicated) == (0, 3, 2)


async def test_an_async_feed_waits_for_all_and_for_each(database_url: str) -> None:
    async def numbers() -> AsyncIterator[NewJob[list[Any]]]:
        for n in range(1_200):
            yield batch_app.index.job(batch_app.Document(n))

    with bench(APPS, GOQUEUE_URL=database_url) as place:
        worker = place.start("worker", "batch_app:app", "--concurrency", "40")
        async with AsyncClient(batch_app.app, database_url) as client:
            jobs = await client.enqueue_many(numbers())
            results = await client.wait_all(jobs, timeout_s=DEADLINE_S)
            assert [result[1] for result in results] == list(range(1_200))
            assert max(result[3] for result in results) == 10
            done = [job.id async for job in client.as_completed(jobs, timeout_s=DEADLINE_S)]
            assert sorted(done) == [job.id for job in jobs]
        assert worker.stop() == 0, worker.output


def test_a_poison_item_dies_alone(database_url: str) -> None:
    settings = {
        "GOQUEUE_URL": database_url,
        "GOQUEUE_DUTIES_SWEEP_S": "0.3",
        "GOQUEUE_STORE_CRASH_DELAY_S": "0.1",
        "GOQUEUE_WORKER_POLL_S": "0.1",
    }
    documents = [batch_app.Document(n, poison=n == 17) for n in range(40)]
    with bench(APPS, **settings) as place, Client(batch_app.app, database_url) as client:
        jobs = client.enqueue_many(batch_app.index.job(document) for document in documents)
        worker = place.start("worker", "batch_app:app", "--concurrency", "20")
        poisoned = jobs.pop(17)
        results = client.wait_all(jobs, timeout_s=DEADLINE_S)
        assert until(lambda: poisoned.state() is JobState.DEAD), worker.output
        assert worker.stop() == 0, worker.output
        dead = poisoned.record()
        crashed = [job.record().crashes for job in jobs]
    assert (dead.reason, dead.crashes) == ("crashed", 3)
    assert [error.type for error in dead.errors] == ["WorkerDied", "HandlerDied", "HandlerDied"]
    assert [result[:2] for result in results] == [
        ["state", document.n] for document in documents if not document.poison
    ]
    assert max(crashed) == 1, "those of its batch have seen one death"
    apart = [result[3] for result, crashes in zip(results, crashed, strict=True) if crashes]
    assert apart == [1] * len(apart), "each of them ran alone after it"


def test_each_job_of_a_batch_fails_and_is_retried_by_itself(database_url: str) -> None:
    with bench(APPS, GOQUEUE_URL=database_url) as place, Client(batch_app.app, database_url) as client:
        worker = place.start("worker", "batch_app:app")
        jobs = client.enqueue_many(batch_app.flaky.job(n) for n in (0, 1, 2, 3, -1))
        *results, failed = client.wait_all(jobs, timeout_s=DEADLINE_S, return_exceptions=True)
        assert results == [0, 1, 2, 3]
        assert "-1 at attempt 3" in str(failed)
        assert [job.record().attempt for job in jobs] == [1, 2, 1, 2, 3]
        assert worker.stop() == 0, worker.output


def test_a_cancel_of_one_and_a_stop_of_the_worker(database_url: str, tmp_path: Path) -> None:
    paths = [str(tmp_path / str(n)) for n in range(3)]
    settings = {"GOQUEUE_URL": database_url, "GOQUEUE_WORKER_GRACE_S": "0.5"}
    with bench(APPS, **settings) as place, Client(batch_app.app, database_url) as client:
        jobs = client.enqueue_many(batch_app.hold.job(path) for path in paths)
        worker = place.start("worker", "batch_app:app")
        assert until(lambda: Path(paths[2]).exists()), worker.output
        jobs[1].cancel(reason="no more")
        assert until(lambda: jobs[1].record().cancel_requested_at is not None)
        assert worker.stop() == 0, worker.output
        states = [job.state() for job in jobs]
        assert states[1] is JobState.CANCELLED
        assert [states[0], states[2]] == [JobState.READY, JobState.READY]
        assert [jobs[n].record().attempt for n in (0, 2)] == [0, 0]
