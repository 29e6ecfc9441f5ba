"""Every field, with what it refuses: the status, the code and the pointer; and never a 5xx."""

from __future__ import annotations

import gc
import json
import time

import httpx
import pytest

from goqueue.api.decoding import LOCATE_BYTES_MAX
from goqueue.model import limits
from goqueue.settings import ServerSettings
from goqueue.tasks.prepare import new_id
from tests.support.faulty_store import FaultyStore
from tests.unit.api.conftest import client_of

V7 = "0193e0a1-7c1e-7a52-8f3e-0123456789ab"
V4 = "9b0c6f0e-5d3f-4c3a-9d57-0123456789ab"  # nothing random here: a parameter is a part of its test's name
DEEP = 10_000


def _job(**fields: object) -> bytes:
    return json.dumps({"kind": "k", **fields}).encode()


def _raw(member: str) -> bytes:
    return b'{"kind":"k",' + member.encode() + b"}"


NO_DURATIONS: tuple[object, ...] = (0, -1, "60", True, 1e300, [], {})

REFUSED = [
    # kind
    (b"{}", "/kind"),
    (b'{"kind":null}', "/kind"),
    (b'{"kind":1}', "/kind"),
    (b'{"kind":""}', "/kind"),
    (b'{"kind":" k"}', "/kind"),
    (b'{"kind":"a\\u0000b"}', "/kind"),
    (b'{"kind":"\\ud800"}', "/kind"),
    (b'{"kind":"\xff"}', "/kind"),
    (json.dumps({"kind": "k" * (limits.KIND_CHARS_MAX + 1)}).encode(), "/kind"),
    # args
    (_job(args=None), "/args"),
    (_job(args=[]), "/args"),
    (_job(args="x"), "/args"),
    (_raw('"args":{"a":"\\u0000"}'), "/args"),
    (_raw('"args":{"a\\u0000":1}'), "/args"),
    (_raw('"args":{"a":"\\ud800"}'), "/args/a"),
    (_raw('"args":{"a":NaN}'), "/args/a"),
    (_raw('"args":{"a":[1,-Infinity]}'), "/args/a/1"),
    (b'{"kind":"k","args":{"a":"\xff"}}', "/args"),
    (_raw('"args":{"a":' + "[" * 100 + "]" * 100 + "}"), "/args"),
    (_raw('"args":{"a":' + "[" * DEEP + "]" * DEEP + "}"), "/args"),
    (_raw('"args":{"a":' + '{"b":' * DEEP + "1" + "}" * DEEP + "}"), "/args"),
    # id
    (_job(id=""), "/id"),
    (_job(id=7), "/id"),
    (_job(id="x"), "/id"),
    (_job(id=V4), "/id"),
    (_job(id=V7.replace("-", "")), "/id"),
    (_job(id="{" + V7 + "}"), "/id"),
    # queue
    (_job(queue=""), "/queue"),
    (_job(queue=None), "/queue"),
    (_job(queue="a\0"), "/queue"),
    (_job(queue="q" * 129), "/queue"),
    (_job(queue="a\nb"), "/queue"),
    # priority
    (_job(priority=-1), "/priority"),
    (_job(priority=10), "/priority"),
    (_job(priority=2**31), "/priority"),
    (_job(priority=-(2**31)), "/priority"),
    (_job(priority=2**64), "/priority"),
    (_job(priority=1.5), "/priority"),
    (_job(priority=True), "/priority"),
    (_job(priority="1"), "/priority"),
    (_raw('"priority":NaN'), "/priority"),
    (_raw('"priority":1e400'), "/priority"),
    # run_at and delay_s
    (_job(run_at="9999-01-01T00:00:00Z"), "/run_at"),
    (_job(run_at="0001-01-01T00:00:00Z"), "/run_at"),
    (_job(run_at="-infinity"), "/run_at"),
    (_job(run_at="tomorrow"), "/run_at"),
    (_job(run_at="2026-01-01T00:00:00"), "/run_at"),
    (_job(run_at=0), "/run_at"),
    (_job(run_at="2027-01-01T00:00:00Z", delay_s=1), "/run_at"),
    (_job(delay_s=-1), "/delay_s"),
    (_job(delay_s="1"), "/delay_s"),
    (_job(delay_s=1e300), "/delay_s"),
    (_raw('"delay_s":1e400'), "/delay_s"),
    (_raw('"delay_s":Infinity'), "/delay_s"),
    # max_attempts, timeout_s
    (_job(max_attempts=0), "/max_attempts"),
    (_job(max_attempts=10**6), "/max_attempts"),
    (_job(max_attempts=None), "/max_attempts"),
    (_job(timeout_s=0), "/timeout_s"),
    (_job(timeout_s=-5), "/timeout_s"),
    (_job(timeout_s=1e12), "/timeout_s"),
    # schedule_to_start_s, deadline_s
    *[(_job(**{name: value}), f"/{name}") for name in ("schedule_to_start_s", "deadline_s") for value in NO_DURATIONS],
    (_raw('"deadline_s":1e400'), "/deadline_s"),
    (_raw('"deadline_s":NaN'), "/deadline_s"),
    (_raw('"schedule_to_start_s":-Infinity'), "/schedule_to_start_s"),
    (_job(delay_s=60, deadline_s=60), "/deadline_s"),
    # retry
    (_job(retry=5), "/retry"),
    (_job(retry=[]), "/retry"),
    (_job(retry={"max_attempts": 3}), "/retry/max_attempts"),
    (_job(retry={"base_s": -1}), "/retry/base_s"),
    (_job(retry={"base_s": 1e300}), "/retry/base_s"),
    (_job(retry={"base_s": None}), "/retry/base_s"),
    (_job(retry={"cap_s": -1}), "/retry/cap_s"),
    (_raw('"retry":{"cap_s":1e400}'), "/retry/cap_s"),
    (_raw('"retry":{"cap_s":Infinity}'), "/retry/cap_s"),
    (_job(retry={"factor": 0.5}), "/retry/factor"),
    (_job(retry={"factor": 10**6}), "/retry/factor"),
    (_raw('"retry":{"factor":NaN}'), "/retry/factor"),
    (_job(retry={"jitter": "some"}), "/retry/jitter"),
    (_job(retry={"delays_s": 5}), "/retry/delays_s"),
    (_job(retry={"delays_s": [1, 2, 3, -1]}), "/retry/delays_s/3"),
    (_job(retry={"delays_s": [1, "2"]}), "/retry/delays_s/1"),
    (_raw('"retry":{"delays_s":[1,NaN]}'), "/retry/delays_s/1"),
    (_job(retry={"delays_s": [1] * (limits.RETRY_DELAYS_MAX + 1)}), "/retry/delays_s"),
    (_job(retry={"retry_for_s": -1}), "/retry/retry_for_s"),
    (_job(retry={"retry_for_s": 1e300}), "/retry/retry_for_s"),
    # unique
    (_job(unique={"until_started": 1}), "/unique/until_started"),
    (_job(unique={"until_started": True, "final_states": ["dead"]}), "/unique/until_started"),
    (_job(unique={"keep_run_at": True}), "/unique/keep_run_at"),
    (_job(unique={"keep_run_at": "yes", "on_conflict": "replace"}), "/unique/keep_run_at"),
    (_job(unique=True), "/unique"),
    (_job(unique={"key": ""}), "/unique/key"),
    (_job(unique={"key": 1}), "/unique/key"),
    (_job(unique={"key": "a\0"}), "/unique/key"),
    (_job(unique={"on_conflict": "explode"}), "/unique/on_conflict"),
    (_job(unique={"final_states": ["ready"]}), "/unique/final_states/0"),
    (_job(unique={"final_states": ["completed", "x"]}), "/unique/final_states/1"),
    (_job(unique={"window_s": 5}), "/unique/window_s"),
    (_job(unique={"window_s": -5, "final_states": ["completed"]}), "/unique/window_s"),
    (_job(unique={"by": "args"}), "/unique/by"),
    # tags, meta
    (_job(tags="a"), "/tags"),
    (_job(tags=["a", 1]), "/tags/1"),
    (_job(tags=["a", ""]), "/tags/1"),
    (_job(tags=["a\0"]), "/tags/0"),
    (_job(tags=["t"] * 17), "/tags"),
    (_job(meta=[]), "/meta"),
    (_job(meta={"a": 1}), "/meta"),
    (_job(meta={"a/b": "\0"}), "/meta/a~1b"),
    (_job(meta={"a\0": "x"}), "/meta/a\0"),
    (_job(meta={str(i): "" for i in range(33)}), "/meta"),
    (_job(meta={"a": "x" * 4097}), "/meta/a"),
    # others
    (_job(state="completed"), "/state"),
    (_job(tenant="other"), "/tenant"),
    (_job(**{"a~/`b": 1}), "/a~0~1`b"),
    (b"[]", ""),
    (b"null", ""),
    (b'"kind"', ""),
    (b"[" * DEEP, ""),
]

MALFORMED = [
    b"",
    b"{",
    b"nonsense",
    b'{"kind":"k"} {}',
    b'{"kind":"k",}',
    b"{'kind':'k'}",
    b'\xef\xbb\xbf{"kind":"k"}',
    '{"kind":"k"}'.encode("utf-16"),
    b'{"kind":"k"',
    b'{"kind":"k","args":{"a":tru}}',
    b'{"kind":"a\nb"}',
]


def is_problem(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """Check that this is a complete problem document, and return it."""
    problem: dict[str, object] = response.json()
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"/problems/{code}"
    assert problem["title"]
    assert problem["detail"]
    assert problem["retryable"] is (status in (408, 503))
    return problem


async def post(client: httpx.AsyncClient, body: bytes, path: str = "/v1/jobs", **headers: str) -> httpx.Response:
    """Post JSON."""
    return await client.post(path, content=body, headers={"content-type": "application/json", **headers})


@pytest.mark.parametrize("body, pointer", REFUSED, ids=lambda v: repr(v[:60]))
async def test_a_field_that_cannot_be_stored_is_named(
    client: httpx.AsyncClient, store: FaultyStore, body: bytes, pointer: str
) -> None:
    problem = is_problem(await post(client, body), 422, "invalid_job")
    assert problem["pointer"] == pointer
    assert store.batches == []


@pytest.mark.parametrize("body, pointer", [row for row in REFUSED if row[1]], ids=lambda v: repr(v[:60]))
async def test_a_bad_item_of_a_batch_is_named_and_hurts_no_other(
    client: httpx.AsyncClient, body: bytes, pointer: str
) -> None:
    response = await post(client, b'{"jobs":[{"kind":"first"},' + body + b',{"kind":"last"}]}', "/v1/jobs/batch")
    if response.status_code == 422:
        # What cannot even be split into items, such as a lone surrogate, is named in the whole.
        assert is_problem(response, 422, "invalid_job")["pointer"] == "/jobs/1" + pointer
        return
    assert response.status_code == 200, response.text
    first, bad, last = response.json()["results"]
    assert first["job"]["kind"] == "first"
    assert last["job"]["kind"] == "last"
    assert bad["error"]["pointer"] == "/jobs/1" + pointer
    assert bad["error"]["code"] == "invalid_job"


@pytest.mark.parametrize("body", MALFORMED, ids=repr)
async def test_what_is_not_json_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    is_problem(await post(client, body), 400, "malformed_json")


@pytest.mark.parametrize("body", MALFORMED[1:], ids=repr)
async def test_a_batch_that_is_not_json_is_400(client: httpx.AsyncClient, store: FaultyStore, body: bytes) -> None:
    is_problem(await post(client, b'{"jobs":[{"kind":"k"},' + body + b"]}", "/v1/jobs/batch"), 400, "malformed_json")
    assert store.batches == []


FAITHFUL = [
    b'{"n":9007199254740993}',
    b'{"n":123456789012345678901234567890}',
    b'{"a":1,"a":2}',
    b'{"s":"\\ud83d\\ude00 \xe2\x80\xae\xe2\x80\x8b"}',
    b'{ "spaced" : [ 1.0, 1e3, -0 ] }',
    b'{"a":' + b"[" * 62 + b"]" * 62 + b"}",
    b"{}",
]


@pytest.mark.parametrize("args", FAITHFUL, ids=lambda v: repr(v[:40]))
async def test_arguments_are_kept_to_the_letter(client: httpx.AsyncClient, args: bytes) -> None:
    response = await post(client, b'{"kind":"k","args":' + args + b"}")
    assert response.status_code == 201, response.text
    assert b'"args":' + args + b"," in response.content
    stored = await client.get(f"/v1/jobs/{response.json()['id']}")
    assert b'"args":' + args + b"," in stored.content


async def test_odd_names_are_kept(client: httpx.AsyncClient) -> None:
    job = {"kind": "naïve→任务", "queue": "ترتيب", "tags": ["<b>&"], "meta": {"trace parent": "\u202e\n"}}
    response = await post(client, json.dumps(job).encode())
    assert response.status_code == 201, response.text
    stored = (await client.get(f"/v1/jobs/{response.json()['id']}")).json()
    assert {key: stored[key] for key in job} == job


LARGEST = {
    "max_attempts": limits.MAX_ATTEMPTS_MAX,
    "timeout_s": limits.TIMEOUT_S_MAX,
    "schedule_to_start_s": limits.DEADLINE_S_MAX,
    "deadline_s": limits.DEADLINE_S_MAX,
    "retry": {
        "base_s": limits.DELAY_S_MAX,
        "factor": limits.RETRY_FACTOR_MAX,
        "cap_s": limits.DELAY_S_MAX,
        "jitter": "none",
        "delays_s": [limits.DELAY_S_MAX] * limits.RETRY_DELAYS_MAX,
        "retry_for_s": limits.DELAY_S_MAX,
    },
}


async def test_the_largest_values_are_taken_and_shown_as_sent(client: httpx.AsyncClient) -> None:
    for more in ({}, {"run_at": "2199-12-31T00:00:00Z"}, {"deadline_s": limits.DEADLINE_S_MIN}):
        response = await post(client, _job(**{**LARGEST, **more}))
        assert response.status_code == 201, response.text
        created, stored = response.json(), (await client.get(f"/v1/jobs/{response.json()['id']}")).json()
        assert {**stored, "deduplicated": False} == created
        assert stored["retry"] == LARGEST["retry"]
        assert stored["schedule_to_start_s"] == limits.DEADLINE_S_MAX
        assert stored["deadline_at"] > stored["created_at"]
        again = await post(client, _job(**{**LARGEST, **more, "id": created["id"]}))
        assert again.status_code == 200, "the same job"
        other = await post(client, _job(**{**LARGEST, **more, "id": created["id"], "retry": None}))
        is_problem(other, 409, "id_conflict")


NEW_ARGS = [
    (b'{"args":null}', "/args"),
    (b'{"args":[]}', "/args"),
    (b'{"args":"x"}', "/args"),
    (b'{"args":{"a":"\\u0000"}}', "/args"),
    (b'{"args":{"a":NaN}}', "/args/a"),
    (b'{"args":{"a":"\\ud800"}}', "/args/a"),
    (b'{"args":{"a":' + b"[" * DEEP + b"]" * DEEP + b"}}", "/args"),
    (b'{"arguments":{}}', "/arguments"),
    (b"[]", ""),
]


@pytest.mark.parametrize("body, pointer", NEW_ARGS, ids=lambda v: repr(v[:60]))
async def test_new_arguments_that_cannot_be_stored_are_named(
    client: httpx.AsyncClient, body: bytes, pointer: str
) -> None:
    job = (await post(client, _job(args={"a": 1}))).json()
    await client.post(f"/v1/jobs/{job['id']}/cancel")
    problem = is_problem(await post(client, body, f"/v1/jobs/{job['id']}/retry"), 422, "invalid_job")
    assert problem["pointer"] == pointer
    stored = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert (stored["state"], stored["args"]) == ("cancelled", {"a": 1})


async def test_new_arguments_are_for_final_jobs(client: httpx.AsyncClient) -> None:
    path = f"/v1/jobs/{(await post(client, _job(args={'a': 1}))).json()['id']}"
    is_problem(await post(client, b'{"args":{}}', f"{path}/retry"), 409, "wrong_state")
    await client.post(f"{path}/cancel")
    answer = await post(client, b'{"args":{"n":9007199254740993}}', f"{path}/retry")
    assert answer.status_code == 200, answer.text
    assert b'"args":{"n":9007199254740993},' in answer.content
    assert answer.json()["state"] == "ready"
    await client.post(f"{path}/cancel")
    assert (await client.post(f"{path}/retry")).json()["args"] == {"n": 9007199254740993}, "without: its own"
    is_problem(await post(client, b'{"args":{}}', f"/v1/jobs/{new_id()}/retry"), 404, "job_not_found")


QUERIES = [
    ("state=done", "/state/0"),
    ("page_size=0", "/page_size"),
    ("page_size=501", "/page_size"),
    ("page_size=many", "/page_size"),
    ("page_size=1&page_size=2", "/page_size"),
    ("created_after=yesterday", "/created_after"),
    ("created_before=2026-01-01T00:00:00", "/created_before"),
    ("finished_after=yesterday", "/finished_after"),
    ("finished_before=2026-01-01T00:00:00", "/finished_before"),
    ("queue=%00", "/queue"),
    ("queue=" + "q" * 300, "/queue"),
    ("tag=a%00", "/tag"),
    ("kind=" + "&kind=".join("abc" * 40), "/kind"),
    ("page_token=!!!", "/page_token"),
    ("page_token=YWJj", "/page_token"),
    ("colour=red", "/colour"),
    ("queue=%ff", ""),
]


@pytest.mark.parametrize("query, pointer", QUERIES, ids=lambda v: v[:30])
async def test_a_bad_filter_is_named(client: httpx.AsyncClient, query: str, pointer: str) -> None:
    problem = is_problem(await client.get(f"/v1/jobs?{query}"), 422, "invalid_query")
    assert problem["pointer"] == pointer


@pytest.mark.parametrize("job_id", ["x", "%00", V4, "a" * 5000, "%F0%9F%98%80", "..%2f", V7.replace("-", "")])
async def test_an_id_that_is_none_is_not_found(client: httpx.AsyncClient, job_id: str) -> None:
    is_problem(
        await client.get(f"/v1/jobs/{job_id}"), 404, "job_not_found" if "%2f" not in job_id else "route_not_found"
    )


@pytest.mark.parametrize("size", [0, 1001])
async def test_a_batch_has_its_bounds(client: httpx.AsyncClient, size: int) -> None:
    body = b'{"jobs":[' + b",".join([b'{"kind":"k"}'] * size) + b"]}"
    assert is_problem(await post(client, body, "/v1/jobs/batch"), 422, "invalid_job")["pointer"] == "/jobs"


FILLER = b'{"jobs":[{"kind":"k","args":{"filler":[' + b"0," * LOCATE_BYTES_MAX + b'"\\"NaN"]}},{"kind":"k","args":'


@pytest.mark.parametrize(
    "args, status, detail",
    [
        (b'{"a":NaN}', 422, "must be a finite number"),
        (b'{"a":-Infinity}', 422, "must be a finite number"),
        (b'{"a":"\\ud800 and more text"}', 422, "lone surrogates"),
        (b'{"a":"\\udc00"}', 422, "lone surrogates"),
        (b'{"a":"\\uD800\\u0041"}', 422, "lone surrogates"),
        (b'{"a":"\\u00zz"}', 400, ""),
        (b'{"a":nan}', 400, ""),
        (b'{"a":"NaN",}', 400, ""),
    ],
    ids=repr,
)
async def test_in_a_large_body_it_is_told_without_a_pointer(
    store: FaultyStore, args: bytes, status: int, detail: str
) -> None:
    async with client_of(store, ServerSettings()) as client:
        response = await post(client, FILLER + args + b"}]}", "/v1/jobs/batch")
    problem = is_problem(response, status, "invalid_job" if status == 422 else "malformed_json")
    assert detail in str(problem["detail"])
    assert not problem.get("pointer")


def _plain_decode_s() -> float:
    """How long this machine takes, just now, to decode 8 MB of JSON as Python's own module does: a yardstick."""
    text = "[" + "0," * 4_000_000 + "0]"
    started = time.process_time()
    json.loads(text)
    return time.process_time() - started


def _item(size: int) -> bytes:
    return b'{"kind":"k\xff","args":{"a":[' + b"0," * (size // 2) + b"0]}}"


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind":"k","args":{"a":[' + b"0," * 4_000_000 + b"NaN]}}",
        b'{"kind":"k","args":{"'
        + b"k" * (LOCATE_BYTES_MAX // 2)
        + b'":['
        + b"0," * (LOCATE_BYTES_MAX // 5)
        + b"NaN]}}",
        b'{"kind":"k","args":{"a":"' + b'\\"' * 60_000 + b'","b":' + b"[" * DEEP + b"]" * DEEP + b"}}",
        b'{"jobs":[' + b",".join([_item(200_000)] * 40) + b"]}",
    ],
    ids=["large", "a long key", "deep beyond a long text", "many items"],
)
async def test_finding_what_is_wrong_takes_little_time(
    store: FaultyStore, body: bytes, request: pytest.FixtureRequest
) -> None:
    """Of the event loop, which all other requests wait for.

    The margin is wide: it takes about as long as one plain decode of 8 MB at most, and took from 6 to 120 times that.
    """
    path = "/v1/jobs/batch" if body.startswith(b'{"jobs"') else "/v1/jobs"
    gc.freeze()  # a collection would visit all that the tests before have left behind: no server has that
    request.addfinalizer(gc.unfreeze)
    before_s = _plain_decode_s()
    async with client_of(store, ServerSettings()) as client:
        started = time.process_time()
        response = await post(client, body, path)
        took_s = time.process_time() - started
    if path == "/v1/jobs":
        assert response.status_code == 422
    else:
        errors = [result["error"] for result in response.json()["results"]]
        assert {error["code"] for error in errors} == {"invalid_job"}
        assert [error["pointer"] for error in errors] == [
            f"/jobs/{i}/kind" if i < 2 else f"/jobs/{i}" for i in range(len(errors))
        ]
    assert took_s < 5 * max(before_s, _plain_decode_s())
