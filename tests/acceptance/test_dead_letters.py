"""Dead letters on a real PostgreSQL: thousands come back by filter and at a rate, one with other arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import psycopg
import pytest

from goqueue.api.app import create_app
from goqueue.client.many import RetriedMany
from goqueue.model.job import ErrorInfo, NewJob
from goqueue.model.lease import Beat, Want, WorkerInfo
from goqueue.model.outcome import Answer, Dead, Settlement
from goqueue.model.query import ChangeStatus
from goqueue.model.retry import Jitter, RetryDelays
from goqueue.settings import ServerSettings
from goqueue.tasks.prepare import new_id
from goqueue.wiring import AsyncClient, Client, open_store

pytestmark = pytest.mark.postgres

JOB: NewJob[object] = NewJob(kind="send", queue="mail", args=b'{"to":"ada"}')
RATE = 200.0


async def kill(url: str, count: int, error: str = "builtins.ValueError", reason: str = "attempts") -> None:
    """Claim so many jobs and settle them as dead."""
    store = open_store(url)
    worker = new_id()
    try:
        await store.open()
        await store.extend(Beat(worker=WorkerInfo(id=worker), ttl_s=600))
        left = count
        while left:
            claimed = await store.claim(Want(worker_id=worker, queues=("mail",), total=min(left, 500)))
            assert claimed.leases, f"{left} jobs are not there"
            left -= len(claimed.leases)
            dead = Dead(ErrorInfo(error, "on purpose", "Traceback …"), reason)
            answers = await store.settle([Settlement(lease.ref, lease.fence, dead) for lease in claimed.leases])
            assert set(answers) == {Answer.APPLIED}
    finally:
        await store.close()


@pytest.fixture
def client(database_url: str) -> Iterator[Client]:
    with Client(url=database_url) as one:
        yield one


def test_thousands_come_back_at_a_rate_with_nobody_staying_up(client: Client, database_url: str) -> None:
    client.enqueue_many([JOB] * 2_300)
    asyncio.run(kill(database_url, 2_300))
    heard: list[int] = []
    done = client.retry_many(queues=["mail"], rate=RATE, progress=lambda so_far: heard.append(so_far.retried))
    assert done == RetriedMany(found=2_300, retried=2_300, spread_s=done.spread_s)
    assert heard == [500, 1_000, 1_500, 2_000, 2_300]
    client.close()  # what is due when is in the database
    with psycopg.connect(database_url) as conn:
        due = [row[0] for row in conn.execute("SELECT run_at FROM goqueue.job ORDER BY run_at").fetchall()]
    assert len(due) == 2_300
    whole_s = (due[-1] - due[0]).total_seconds()
    assert 2_299 / RATE * 0.99 <= whole_s <= 2_299 / RATE + 30
    # In no second more than the rate, across the seams of the selections too.
    closest_s = min((b - a).total_seconds() for a, b in zip(due, due[int(RATE) :], strict=False))
    assert closest_s >= 0.99


def test_only_what_the_filter_names(client: Client, database_url: str) -> None:
    client.enqueue_many([JOB] * 3)
    asyncio.run(kill(database_url, 3))
    client.enqueue_many([JOB] * 2)
    asyncio.run(kill(database_url, 2, error="httpx.ConnectTimeout", reason="crashed"))
    assert client.retry_many(reasons=["crashed"], dry_run=True).found == 2
    assert client.retry_many(errors=["ConnectTimeout"], dry_run=True).found == 2
    assert client.retry_many(reasons=["attempts"]).retried == 3
    assert client.delete_many(states=["dead"]).changed == 2
    assert client.cancel_many(queues=["mail"], reason="enough").changed == 3
    assert {job.known.reason for job in client.iterate() if job.known is not None} == {"enough"}
    assert client.retry_many() == RetriedMany()


def test_one_with_other_arguments(client: Client, database_url: str) -> None:
    job = client.enqueue(JOB)
    asyncio.run(kill(database_url, 1))
    before = job.record()
    assert [error.message for error in before.errors] == ["on purpose"]
    assert client.retry(job.id, {"to": "grace"}) is ChangeStatus.CHANGED
    after = job.record()
    assert (bytes(after.args), str(after.state), after.attempt) == (b'{"to":"grace"}', "ready", before.attempt)
    assert after.errors == before.errors, "its history stays"


def test_limits_of_a_job_by_every_way_in(database_url: str) -> None:
    retry = {"delays_s": [1.0, 2.5], "jitter": "none", "retry_for_s": 600.0}

    async def enqueue_each_way() -> list[str]:
        store = open_store(database_url)
        await store.open()
        transport = httpx.ASGITransport(create_app(store, ServerSettings()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            body = {"kind": "send", "schedule_to_start_s": 60, "deadline_s": 3600, "retry": retry}
            created = (await http.post("/v1/jobs", json=body)).json()
            batch = (await http.post("/v1/jobs/batch", json={"jobs": [body]})).json()["results"][0]["job"]
            assert created["retry"] == {"base_s": 2.0, "factor": 2.0, "cap_s": 3600.0, **retry}
            stored = (await http.get(f"/v1/jobs/{created['id']}")).json()
            assert {**stored, "deduplicated": False} == created, "what was answered is what is stored"
        await store.close()
        async with AsyncClient(url=database_url) as client:
            delays = RetryDelays(delays_s=(1.0, 2.5), jitter=Jitter.NONE, retry_for_s=600.0)
            job: NewJob[object] = NewJob(kind="send", schedule_to_start_s=60.0, deadline_s=3600.0, retry=delays)
            return [created["id"], batch["id"], (await client.enqueue(job)).id]

    ids = asyncio.run(enqueue_each_way())
    with Client(url=database_url) as client:
        records = [client.get(id).record() for id in ids]
    for record in records:
        assert record.schedule_to_start_s == 60
        assert record.deadline_at is not None
        assert record.retry == RetryDelays(delays_s=(1.0, 2.5), jitter=Jitter.NONE, retry_for_s=600.0)
        assert abs((record.deadline_at - record.created_at).total_seconds() - 3600) < 1
