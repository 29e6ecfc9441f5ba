"""Submitting: new jobs, ids and keys that exist, batches, a store that is away."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import httpx
import pytest

from goqueue.model.job import NewJob
from goqueue.model.query import Changed, ChangeStatus
from goqueue.settings import ServerSettings
from goqueue.tasks.prepare import new_id
from tests.support.faulty_store import FaultyStore, Gate
from tests.unit.api.conftest import client_of
from tests.unit.api.test_bad_input import is_problem


async def submit(client: httpx.AsyncClient, **fields: object) -> httpx.Response:
    """Submit one job of kind k."""
    return await client.post("/v1/jobs", json={"kind": "k", **fields})


async def let_run() -> None:
    """Let every request that was started come as far as it can: all runs in this loop, and nothing waits for time."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_the_answer_is_the_job_as_stored(client: httpx.AsyncClient) -> None:
    fields: dict[str, Any] = {
        "args": {"to": "ada"},
        "queue": "mail",
        "priority": 1,
        "max_attempts": 3,
        "timeout_s": 30.0,
        "tags": ["a", "b"],
        "meta": {"m": "1"},
    }
    response = await submit(client, **fields)
    assert response.status_code == 201
    job = response.json()
    assert {name: job[name] for name in fields} == fields
    assert (job["state"], job["attempt"], job["deduplicated"]) == ("ready", 0, False)
    stored = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert job == {**stored, "deduplicated": False}


@pytest.mark.parametrize(
    "when", [{"delay_s": 60}, {"run_at": "2100-01-01T00:00:00Z"}, {"run_at": "2100-01-01T01:00:00+01:00"}]
)
async def test_later_is_scheduled(client: httpx.AsyncClient, when: dict[str, object]) -> None:
    job = (await submit(client, **when)).json()
    assert job["state"] == "scheduled"
    waits_s = (datetime.fromisoformat(job["run_at"]) - datetime.fromisoformat(job["created_at"])).total_seconds()
    assert waits_s >= 60
    if "run_at" in when:
        assert job["run_at"] == "2100-01-01T00:00:00Z"
    stored = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert job == {**stored, "deduplicated": False}


async def test_the_past_is_now(client: httpx.AsyncClient) -> None:
    job = (await submit(client, run_at="2001-01-01T00:00:00Z")).json()
    assert job["state"] == "ready"
    assert job["run_at"] >= job["created_at"]


async def test_the_same_id_again(client: httpx.AsyncClient, store: FaultyStore) -> None:
    job_id = new_id()
    first = await submit(client, id=job_id, args={"a": 1, "b": 2}, tags=["x"])
    again = await client.post(
        "/v1/jobs",
        content=b'{"id":"%s","args":{"b":2, "a":1},"tags":["x"],"kind":"k"}' % job_id.upper().encode(),
        headers={"content-type": "application/json; charset=utf-8"},
    )
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    page = (await client.get("/v1/jobs")).json()
    assert len(page["jobs"]) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "other"},
        {"args": {"a": 1.0}},
        {"args": {"a": 1, "b": 1}},
        {"priority": 6},
        {"queue": "q2"},
        {"max_attempts": 2},
        {"timeout_s": 1.0},
        {"tags": []},
        {"meta": {"m": "2"}},
        {"unique": {"key": "u"}},
    ],
    ids=str,
)
async def test_the_same_id_for_something_else(client: httpx.AsyncClient, other: dict[str, object]) -> None:
    body = {"kind": "k", "id": new_id(), "args": {"a": 1}, "tags": ["x"], "meta": {"m": "1"}}
    assert (await client.post("/v1/jobs", json=body)).status_code == 201
    is_problem(await client.post("/v1/jobs", json=body | other), 409, "id_conflict")


async def test_a_held_key_returns_its_holder(client: httpx.AsyncClient) -> None:
    holder = await submit(client, unique={"key": "u"}, args={"a": 1})
    assert (holder.status_code, holder.json()["deduplicated"]) == (201, False)
    response = await submit(client, unique={"key": "u"}, args={"a": 2})
    assert response.status_code == 200
    assert response.json() == {**holder.json(), "deduplicated": True}


async def test_a_held_key_can_reject(client: httpx.AsyncClient) -> None:
    holder = (await submit(client, unique={})).json()
    response = await submit(client, unique={"on_conflict": "reject"})
    assert is_problem(response, 409, "unique_conflict")["holder_id"] == holder["id"]
    assert (await submit(client, unique={"on_conflict": "reject"}, args={"other": 1})).status_code == 201


async def test_a_held_key_can_be_replaced(client: httpx.AsyncClient) -> None:
    holder = (await submit(client, unique={"key": "u"}, args={"a": 1})).json()
    response = await submit(client, unique={"key": "u", "on_conflict": "replace"}, args={"a": 2})
    assert response.status_code == 200
    assert (response.json()["id"], response.json()["args"], response.json()["deduplicated"]) == (
        holder["id"],
        {"a": 2},
        True,
    )


async def test_a_key_in_an_open_transaction_is_busy(client: httpx.AsyncClient, store: FaultyStore) -> None:
    gate = Gate()
    store.before_enqueue = gate.pass_through
    response = await submit(client, unique={"key": "u"})
    is_problem(response, 503, "key_busy")
    assert int(response.headers["retry-after"]) >= 1


async def test_a_batch_is_answered_in_order(client: httpx.AsyncClient, store: FaultyStore) -> None:
    own_id = new_id()
    jobs: list[object] = [
        {"kind": "plain", "args": {"i": 0}},
        {"kind": "keyed", "unique": {"key": "u"}},
        {"kind": ""},
        {"kind": "keyed", "unique": {"key": "u"}},
        {"kind": "keyed", "unique": {"key": "u", "on_conflict": "reject"}},
        {"kind": "own", "id": own_id},
        {"kind": "other", "id": own_id},
        7,
        {"kind": "plain", "args": {"i": 1}},
    ]
    response = await client.post("/v1/jobs/batch", json={"jobs": jobs})
    assert response.status_code == 200
    results = response.json()["results"]
    seen = [(r["job"]["kind"], r["job"]["deduplicated"]) if "job" in r else r["error"]["code"] for r in results]
    assert seen == [
        ("plain", False),
        ("keyed", False),
        "invalid_job",
        ("keyed", True),
        "unique_conflict",
        ("own", False),
        "id_conflict",
        "invalid_job",
        ("plain", False),
    ]
    assert [r["job"]["args"] for r in (results[0], results[-1])] == [{"i": 0}, {"i": 1}]
    assert results[4]["error"]["holder_id"] == results[1]["job"]["id"]
    assert len(store.batches) == 2  # the plain ones, the others


async def test_in_a_batch_a_busy_key_hurts_nobody_else(client: httpx.AsyncClient, store: FaultyStore) -> None:
    gate = Gate()

    async def wait_for_busy(jobs: object) -> None:
        assert isinstance(jobs, list)
        if any(job.unique is not None and job.unique.key == "busy" for job in jobs):
            await gate.pass_through()

    store.before_enqueue = wait_for_busy
    keys = [f"k{i}" for i in range(10)] + ["busy"] + [f"l{i}" for i in range(10)]
    response = await client.post(
        "/v1/jobs/batch", json={"jobs": [{"kind": "k", "unique": {"key": key}} for key in keys]}
    )
    results = response.json()["results"]
    assert [key for key, r in zip(keys, results, strict=True) if "error" in r] == ["busy"]
    assert results[10]["error"]["code"] == "key_busy"


async def test_in_a_batch_one_that_the_store_refuses_stands_alone(
    client: httpx.AsyncClient, store: FaultyStore
) -> None:
    store.before_enqueue = refuse_kind("bad")
    kinds = ["a", "b", "bad", "c", "d", "e", "f"]
    response = await client.post("/v1/jobs/batch", json={"jobs": [{"kind": kind} for kind in kinds]})
    results = response.json()["results"]
    assert [kind for kind, r in zip(kinds, results, strict=True) if "error" in r] == ["bad"]
    assert results[2]["error"]["code"] == "internal_error"
    assert "secret" not in response.text
    assert len((await client.get("/v1/jobs")).json()["jobs"]) == 6


def refuse_kind(kind: str) -> Any:  # a hook of the store
    async def hook(jobs: list[NewJob[object]]) -> None:
        if any(job.kind == kind for job in jobs):
            raise ValueError("secret of the store")

    return hook


async def test_many_at_once_are_few_statements(client: httpx.AsyncClient, store: FaultyStore) -> None:
    gate = Gate()
    store.before_enqueue = gate.pass_through
    requests = []
    for i in range(200):
        requests.append(asyncio.create_task(submit(client, args={"i": i})))
        if i < 2:  # these two go at once, one by one
            await gate.wait_for(i + 1)
    await let_run()
    assert [len(batch) for batch in store.batches] == [1, 1]  # the rest waits for one of these
    gate.open()
    responses = await asyncio.gather(*requests)
    assert {r.status_code for r in responses} == {201}
    assert [r.json()["args"]["i"] for r in responses] == list(range(200))
    assert len({r.json()["id"] for r in responses}) == 200
    assert [len(batch) for batch in store.batches] == [1, 1, 198]
    assert store.in_flight_max == 2


async def test_of_many_at_once_the_refused_one_stands_alone(client: httpx.AsyncClient, store: FaultyStore) -> None:
    store.before_enqueue = refuse_kind("bad")
    kinds = ["bad" if i == 77 else "good" for i in range(200)]
    responses = await asyncio.gather(*(client.post("/v1/jobs", json={"kind": kind}) for kind in kinds))
    assert [i for i, r in enumerate(responses) if r.status_code != 201] == [77]
    is_problem(responses[77], 500, "internal_error")
    assert len((await client.get("/v1/jobs?page_size=500")).json()["jobs"]) == 199


async def test_a_store_that_is_down_and_comes_back(client: httpx.AsyncClient, store: FaultyStore) -> None:
    assert (await client.get("/readyz")).status_code == 200
    store.down = True
    for response in (
        await submit(client),
        await submit(client, unique={"key": "u"}),
        await client.post("/v1/jobs/batch", json={"jobs": [{"kind": "k"}, {"kind": ""}]}),
        await client.post("/v1/jobs", json={"kind": "k"}, headers={"idempotency-key": "i"}),
        await client.post(f"/v1/jobs/{new_id()}/cancel"),
        await client.get("/readyz"),
    ):
        is_problem(response, 503, "store_unavailable")
        assert int(response.headers["retry-after"]) >= 1
    assert (await client.get("/livez")).status_code == 200
    store.down = False
    assert (await client.get("/readyz")).status_code == 200
    assert (await submit(client)).status_code == 201


async def test_a_full_queue_refuses_at_once(store: FaultyStore) -> None:
    gate = Gate()
    store.before_enqueue = gate.pass_through
    async with client_of(store, ServerSettings(submissions_waiting_max=3, gather_max=1)) as client:
        waiting = []
        for i in range(5):  # two go, three wait
            waiting.append(asyncio.create_task(submit(client)))
            await gate.wait_for(min(i + 1, 2))
        await let_run()
        is_problem(await submit(client), 503, "store_unavailable")
        gate.open()
        assert {r.status_code for r in await asyncio.gather(*waiting)} == {201}


async def test_a_request_has_a_deadline(store: FaultyStore) -> None:
    gate = Gate()
    store.before_enqueue = gate.pass_through
    async with client_of(store, ServerSettings(request_timeout_s=0.1)) as client:
        is_problem(await submit(client), 503, "store_unavailable")
        gate.open()
        assert (await submit(client)).status_code == 201


async def test_readiness_probes_are_shared(client: httpx.AsyncClient, store: FaultyStore) -> None:
    gate = Gate()
    store.before_ping = gate.pass_through
    store.down = True
    asked = [asyncio.create_task(client.get("/readyz")) for _ in range(20)]
    await gate.wait_for(1)
    gate.open()
    for response in await asyncio.gather(*asked):
        is_problem(response, 503, "store_unavailable")
    assert store.pings <= 2


async def test_a_store_that_hangs_is_not_ready(client: httpx.AsyncClient, store: FaultyStore) -> None:
    store.before_ping = Gate().pass_through
    is_problem(await client.get("/readyz"), 503, "store_unavailable")


async def test_paging_sees_each_job_once(client: httpx.AsyncClient) -> None:
    await client.post("/v1/jobs/batch", json={"jobs": [{"kind": f"k{i % 2}", "queue": "q"} for i in range(25)]})
    seen: list[str] = []
    token = ""
    for _ in range(20):
        page = (await client.get("/v1/jobs", params={"queue": "q", "page_size": 4, "page_token": token})).json()
        seen += [job["id"] for job in page["jobs"]]
        token = page["next_page_token"]
        if not token:
            break
    assert len(seen) == len(set(seen)) == 25
    assert seen == sorted(seen, reverse=True)


async def test_a_token_belongs_to_its_filter(client: httpx.AsyncClient) -> None:
    await client.post("/v1/jobs/batch", json={"jobs": [{"kind": "k"}] * 5})
    token = (await client.get("/v1/jobs?page_size=2&kind=k")).json()["next_page_token"]
    response = await client.get(f"/v1/jobs?page_size=2&kind=other&page_token={token}")
    assert is_problem(response, 422, "invalid_query")["pointer"] == "/page_token"


async def test_filters_select(client: httpx.AsyncClient) -> None:
    await submit(client, queue="a", tags=["x", "y"])
    await submit(client, queue="b", tags=["x"], delay_s=100)
    await submit(client, queue="c")

    async def queues(query: str) -> set[str]:
        return {job["queue"] for job in (await client.get(f"/v1/jobs?{query}")).json()["jobs"]}

    assert await queues("state=scheduled") == {"b"}
    assert await queues("state=scheduled&state=ready") == {"a", "b", "c"}
    assert await queues("queue=a&queue=c") == {"a", "c"}
    assert await queues("tag=x") == {"a", "b"}
    assert await queues("tag=x&tag=y") == {"a"}
    assert await queues("created_after=2100-01-01T00:00:00Z") == set()
    assert await queues("created_before=9999-12-31T23:59:59-12:00&created_after=0001-01-01T00:00:00%2B14:00") == {
        "a",
        "b",
        "c",
    }
    assert await queues("finished_after=2000-01-01T00:00:00Z") == set(), "none has finished"
    job = (await submit(client, queue="d")).json()
    await client.post(f"/v1/jobs/{job['id']}/cancel")
    assert await queues("finished_after=2000-01-01T00:00:00Z") == {"d"}
    assert await queues("finished_before=2000-01-01T00:00:00Z") == set()


@pytest.mark.parametrize(
    "status, code, answer",
    [
        (ChangeStatus.WRONG_STATE, "wrong_state", 409),
        (ChangeStatus.KEY_HELD, "conflict", 409),
        (ChangeStatus.BUSY, "unavailable", 503),
        (ChangeStatus.NOT_FOUND, "job_not_found", 404),
    ],
)
async def test_a_change_that_cannot_be(
    client: httpx.AsyncClient, store: FaultyStore, status: ChangeStatus, code: str, answer: int
) -> None:
    job_id = (await submit(client)).json()["id"]
    store.before_change = lambda: [Changed(job_id, status)]
    is_problem(await client.post(f"/v1/jobs/{job_id}/retry"), answer, code)
    is_problem(await client.post(f"/v1/jobs/{job_id}/cancel", json={"reason": "x"}), answer, code)
    is_problem(await client.delete(f"/v1/jobs/{job_id}"), answer, code)


async def test_a_locked_row_is_tried_again(client: httpx.AsyncClient, store: FaultyStore) -> None:
    job_id = (await submit(client)).json()["id"]
    answers = [[Changed(job_id, ChangeStatus.BUSY)]]
    store.before_change = lambda: answers.pop() if answers else None
    assert (await client.post(f"/v1/jobs/{job_id}/cancel", json={"reason": "why"})).json()["reason"] == "why"


async def test_cancel_retry_delete(client: httpx.AsyncClient) -> None:
    job_id = (await submit(client, delay_s=50)).json()["id"]
    assert (await client.post(f"/v1/jobs/{job_id}/retry", json={})).json()["state"] == "ready"
    assert (await client.post(f"/v1/jobs/{job_id}/cancel", json={"reason": "no"})).json()["state"] == "cancelled"
    assert (await client.post(f"/v1/jobs/{job_id}/retry")).json()["state"] == "ready"
    deleted = await client.delete(f"/v1/jobs/{job_id}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    is_problem(await client.get(f"/v1/jobs/{job_id}"), 404, "job_not_found")
    is_problem(await client.post(f"/v1/jobs/{job_id}/cancel", json={"why": ""}), 422, "invalid_job")


async def test_a_held_key_whose_holder_has_just_gone(client: httpx.AsyncClient, store: FaultyStore) -> None:
    holder = (await submit(client, unique={"key": "u"})).json()

    async def gone() -> None:
        store.after_enqueue = None
        assert (await client.delete(f"/v1/jobs/{holder['id']}")).status_code == 204

    store.after_enqueue = gone
    response = await submit(client, unique={"key": "u"})
    assert response.status_code == 201
    assert response.json()["id"] != holder["id"]
