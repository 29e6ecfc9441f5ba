"""What a handler has logged, over HTTP."""

from __future__ import annotations

import httpx

from goqueue.model.lease import Beat, Want, WorkerInfo
from goqueue.model.outcome import Complete, NewLog, Note, Settlement
from tests.support.faulty_store import FaultyStore

WORKER = WorkerInfo(id="0199a1b2-0000-7000-8000-0000000000aa")


async def test_lines_are_part_of_a_job(client: httpx.AsyncClient, store: FaultyStore) -> None:
    job = (await client.post("/v1/jobs", json={"kind": "mail", "meta": {"goqueue.version": "2"}})).json()
    assert job["logs"] == []
    await store.extend(Beat(worker=WORKER, ttl_s=60))
    claimed = await store.claim(Want(worker_id=WORKER.id, queues=("default",), total=1))
    (lease,) = claimed.leases
    note = Note(b"1", (NewLog(1, "warning", "odd"),))
    await store.settle([Settlement(lease.ref, lease.fence, Complete(), note)])
    shown = (await client.get(f"/v1/jobs/{job['id']}")).json()
    (line,) = shown["logs"]
    assert (line["attempt"], line["level"], line["message"], shown["progress"]) == (1, "warning", "odd", 1)
    assert line["at"].endswith("Z")


async def test_a_version_that_is_none_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={"kind": "mail", "meta": {"goqueue.version": "two"}})
    assert (answer.status_code, answer.json()["pointer"]) == (422, "/meta/goqueue.version")
