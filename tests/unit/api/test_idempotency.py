"""``Idempotency-Key``: once, also across crashes and races."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.support.faulty_store import FaultyStore, Gate
from tests.unit.api.conftest import client_of
from tests.unit.api.test_bad_input import is_problem

KEY = {"idempotency-key": "order-17"}


class Crash(BaseException):
    """The process dies here: no handler may see it as an error to answer."""


async def submit(client: httpx.AsyncClient, i: int = 0, **headers: str) -> httpx.Response:
    return await client.post("/v1/jobs", json={"kind": "k", "args": {"i": i}}, headers={**KEY, **headers})


async def count(client: httpx.AsyncClient) -> int:
    return len((await client.get("/v1/jobs?page_size=500")).json()["jobs"])


async def test_a_replay_is_the_same_to_the_byte(client: httpx.AsyncClient) -> None:
    first = await submit(client)
    assert first.status_code == 201
    assert "idempotency-replayed" not in first.headers
    await client.post(f"/v1/jobs/{first.json()['id']}/cancel")
    again = await submit(client)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert await count(client) == 1


async def test_a_replay_is_the_same_after_the_job_was_deleted(client: httpx.AsyncClient) -> None:
    first = await submit(client)
    assert (await client.delete(f"/v1/jobs/{first.json()['id']}")).status_code == 204
    assert (await submit(client)).content == first.content
    assert await count(client) == 0


async def test_another_body_is_refused(client: httpx.AsyncClient) -> None:
    await submit(client, 1)
    is_problem(await submit(client, 2), 422, "idempotency_mismatch")
    assert await count(client) == 1


async def test_keys_are_scoped_to_the_route(client: httpx.AsyncClient) -> None:
    assert (await submit(client)).status_code == 201
    response = await client.post("/v1/jobs/batch", json={"jobs": [{"kind": "k"}]}, headers=KEY)
    assert response.status_code == 200
    assert await count(client) == 2


@pytest.mark.parametrize("key", ["", " ", "k" * 256, "a\tb", "caf\xe9", "a\x7f"])
async def test_a_malformed_key(client: httpx.AsyncClient, key: str) -> None:
    response = await client.post("/v1/jobs", json={"kind": "k"}, headers={b"idempotency-key": key.encode("latin-1")})
    is_problem(response, 400, "invalid_idempotency_key")
    assert await count(client) == 0


async def test_a_refused_body_does_not_use_up_the_key(client: httpx.AsyncClient) -> None:
    for body in ({"kind": ""}, {"kind": "k", "queue": " q"}):
        is_problem(await client.post("/v1/jobs", json=body, headers=KEY), 422, "invalid_job")
    assert (await submit(client)).status_code == 201


@pytest.mark.parametrize("dies", ["before the jobs", "between jobs and answer"])
async def test_a_server_that_dies(store: FaultyStore, dies: str) -> None:
    async def crash(*_: object) -> None:
        raise Crash

    async with client_of(store) as first_server:
        if dies == "before the jobs":
            store.before_enqueue = crash
        else:
            store.after_enqueue = crash
        with pytest.raises(Crash):
            await submit(first_server)
    store.before_enqueue = store.after_enqueue = None
    async with client_of(store) as second_server:
        assert await count(second_server) == (0 if dies == "before the jobs" else 1)
        again = await submit(second_server)
        assert again.status_code == 201
        assert again.headers["idempotency-replayed"] == "true"
        third = await submit(second_server)
        assert (third.status_code, third.content) == (201, again.content)
        assert await count(second_server) == 1
        is_problem(await submit(second_server, 5), 422, "idempotency_mismatch")


async def test_a_batch_of_a_server_that_dies(store: FaultyStore) -> None:
    body = {"jobs": [{"kind": "a"}, {"kind": ""}, {"kind": "b", "unique": {"key": "u"}}, {"kind": "c"}]}

    async def crash() -> None:
        raise Crash

    store.after_enqueue = crash
    async with client_of(store) as first_server:
        with pytest.raises(Crash):
            await first_server.post("/v1/jobs/batch", json=body, headers=KEY)
    store.after_enqueue = None
    async with client_of(store) as second_server:
        again = await second_server.post("/v1/jobs/batch", json=body, headers=KEY)
        kinds = [r["job"]["kind"] if "job" in r else r["error"]["pointer"] for r in again.json()["results"]]
        assert kinds == ["a", "/jobs/1/kind", "b", "c"]
        assert not any(r["job"]["deduplicated"] for r in again.json()["results"] if "job" in r)
        assert await count(second_server) == 3
        assert (await second_server.post("/v1/jobs/batch", json=body, headers=KEY)).content == again.content
        assert await count(second_server) == 3


async def test_the_store_fails_between_jobs_and_answer(client: httpx.AsyncClient, store: FaultyStore) -> None:
    async def down() -> None:
        store.down = True

    store.after_enqueue = down
    # The job is stored, but what to answer next time is not: better no answer than two different ones.
    is_problem(await submit(client), 503, "store_unavailable")
    store.down, store.after_enqueue = False, None
    assert (await submit(client)).status_code == 201
    assert await count(client) == 1


async def test_many_at_once_agree(client: httpx.AsyncClient, store: FaultyStore) -> None:
    gate = Gate()
    store.before_enqueue = gate.pass_through
    requests = [asyncio.create_task(submit(client)) for _ in range(20)]
    await gate.wait_for(2)
    gate.open()
    responses = await asyncio.gather(*requests)
    statuses = {r.status_code for r in responses}
    assert statuses == {201}
    assert len({r.content for r in responses}) == 1
    assert sum("idempotency-replayed" not in r.headers for r in responses) <= 1
    assert await count(client) == 1


async def test_a_conflict_is_an_answer_too(client: httpx.AsyncClient) -> None:
    holder = (await client.post("/v1/jobs", json={"kind": "k", "unique": {"key": "u"}})).json()
    body = {"kind": "k", "unique": {"key": "u", "on_conflict": "reject"}}
    first = await client.post("/v1/jobs", json=body, headers=KEY)
    is_problem(first, 409, "unique_conflict")
    await client.delete(f"/v1/jobs/{holder['id']}")
    again = await client.post("/v1/jobs", json=body, headers=KEY)
    assert (again.status_code, again.content) == (409, first.content)
    assert again.headers["content-type"] == "application/problem+json"
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_busy_key_is_not_kept(client: httpx.AsyncClient, store: FaultyStore) -> None:
    gate = Gate()
    store.before_enqueue = gate.pass_through
    body = {"jobs": [{"kind": "k", "unique": {"key": "u"}}]}
    first = await client.post("/v1/jobs/batch", json=body, headers=KEY)
    assert first.json()["results"][0]["error"]["code"] == "key_busy"
    gate.open()
    again = await client.post("/v1/jobs/batch", json=body, headers=KEY)
    assert again.json()["results"][0]["job"]["kind"] == "k"


async def test_with_an_id_of_the_callers(client: httpx.AsyncClient) -> None:
    made = (await client.post("/v1/jobs", json={"kind": "k"})).json()
    body = {"kind": "other", "id": made["id"]}
    is_problem(await client.post("/v1/jobs", json=body, headers=KEY), 409, "id_conflict")
    is_problem(await client.post("/v1/jobs", json=body, headers=KEY), 409, "id_conflict")
