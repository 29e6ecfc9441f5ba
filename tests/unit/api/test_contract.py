"""The OpenAPI document: it is what is committed, every operation answers as it says, and fuzzing finds no 5xx."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goqueue.api.openapi import document
from goqueue.api.operations import OPERATIONS
from goqueue.model.errors import SerializationConflict
from goqueue.tasks.prepare import new_id
from tests.support.faulty_store import FaultyStore
from tests.unit.api.conftest import client_of

ROOT = Path(__file__).parents[3]
DOCUMENT: Any = json.loads(document())  # plain JSON, walked freely here


def check_answer(response: httpx.Response) -> None:
    """Check status, content type and body against the document."""
    method, path = response.request.method.lower(), response.request.url.path
    operation = next(
        item[method]
        for template, item in sorted(DOCUMENT["paths"].items(), key=lambda entry: "{" in entry[0])
        if method in item and re.fullmatch(template.replace("{id}", "[^/]*"), path)
    )
    status = str(response.status_code)
    assert status in operation["responses"], f"{method} {path} may not answer {status}: {response.text}"
    content = operation["responses"][status].get("content")
    if content is None:
        assert response.content == b""
        return
    ((media_type, of_type),) = content.items()
    assert response.headers["content-type"] == media_type
    schema = {**of_type["schema"], "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(response.json())
    if status == "503":
        assert response.headers["retry-after"].isdigit()
    if int(status) >= 400:
        codes = re.findall(r"`(\w+)`", operation["responses"][status]["description"])
        assert response.json()["code"] in codes


def test_the_committed_document_is_current() -> None:
    assert (ROOT / "contracts/openapi.json").read_text("utf-8") == document()


def test_the_document_is_openapi() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    operations = [op for item in DOCUMENT["paths"].values() for op in item.values()]
    assert sorted(op["operationId"] for op in operations) == sorted(op.name for op in OPERATIONS)
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert used == set(DOCUMENT["components"]["schemas"])


def test_what_the_document_promises_of_a_job_is_a_job() -> None:
    """A check of the check: the validator refuses what is not a job."""
    schema = {"$ref": "#/components/schemas/Job", "components": DOCUMENT["components"]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({"id": "x"})


async def test_answers_are_as_documented(client: httpx.AsyncClient, store: FaultyStore) -> None:
    own_id = new_id()
    job = await client.post("/v1/jobs", json={"kind": "k", "id": own_id, "unique": {"key": "u"}})
    batch = {"jobs": [{"kind": "a"}, {"kind": ""}, {"kind": "b", "unique": {"key": "u", "on_conflict": "reject"}}]}
    answers = [
        job,
        await client.post("/v1/jobs", json={"kind": "k", "unique": {"key": "u"}}),
        await client.post("/v1/jobs", json={"kind": "k", "unique": {"key": "u", "on_conflict": "reject"}}),
        await client.post("/v1/jobs", json={"kind": "other", "id": own_id}),
        await client.post("/v1/jobs", content=b"{", headers={"content-type": "application/json"}),
        await client.post("/v1/jobs", content=b"{}"),
        await client.post("/v1/jobs", json={"kind": "k"}, headers={"idempotency-key": ""}),
        await client.post("/v1/jobs/batch", json=batch),
        await client.get("/v1/jobs"),
        await client.get("/v1/jobs?page_size=0"),
        await client.get(f"/v1/jobs/{own_id}"),
        await client.post(f"/v1/jobs/{own_id}/cancel"),
        await client.get(f"/v1/jobs/{own_id}"),
        await client.post(f"/v1/jobs/{own_id}/retry"),
        await client.delete(f"/v1/jobs/{own_id}"),
        await client.get(f"/v1/jobs/{own_id}"),
        await client.get("/livez"),
        await client.get("/readyz"),
        await client.get("/openapi.json"),
    ]
    store.down = True
    answers += [await client.post("/v1/jobs", json={"kind": "k"}), await client.get("/readyz")]
    for answer in answers:
        check_answer(answer)
    assert answers[18].json() == DOCUMENT


@pytest.mark.parametrize("path, body", [("/v1/jobs", {"kind": "k"}), ("/v1/jobs/batch", {"jobs": [{"kind": "k"}]})])
async def test_rare_answers_to_submissions_are_documented(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, object]
) -> None:
    async def refuse() -> None:
        raise SerializationConflict("a concurrent transaction got in the way")

    async def nothing(*_: object) -> None:
        return None

    async with client_of(store) as client:
        store.before_write = refuse
        conflict = await client.post(path, json=body, headers={"idempotency-key": "a"})
        monkeypatch.setattr(store, "write", nothing)
        in_use = await client.post(path, json=body, headers={"idempotency-key": "a"})
    assert (conflict.status_code, conflict.json()["code"]) == (409, "serialization_conflict")
    assert (in_use.status_code, in_use.json()["code"]) == (503, "unavailable")
    check_answer(conflict)
    check_answer(in_use)


# -- fuzzing --------------------------------------------------------------------------------------

TEXT = st.text(max_size=20) | st.sampled_from(["", " ", "\0", "default", "k", new_id()])
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=True, allow_infinity=True)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def near(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema of the document allows, or that are just beside it."""
    if "$ref" in schema:
        return near(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return st.one_of([near(variant) for variant in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from([*schema["enum"], "other"])
    match schema.get("type"):
        case "string" if schema.get("format") == "date-time":
            return st.datetimes().map(lambda at: at.isoformat() + "Z") | TEXT
        case "string":
            return TEXT
        case "integer" | "number":
            bounds = [schema.get("minimum", 0), schema.get("maximum", 10)]
            return st.sampled_from([*bounds, bounds[0] - 1, bounds[1] + 1]) | NUMBERS
        case "array":
            return st.lists(near(schema["items"]), max_size=4)
        case "object":
            properties = {name: near(property_) for name, property_ in schema.get("properties", {}).items()}
            required = {name: properties.pop(name) for name in schema.get("required", [])}
            if not properties and not required:
                return st.dictionaries(TEXT, JSON, max_size=4)
            return st.fixed_dictionaries(required, optional=properties)
        case _:
            return JSON


NEW_JOB = near({"$ref": "#/components/schemas/NewJob"})
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


async def _fuzz(method: str, path: str, **request: Any) -> None:  # passed on to httpx
    store = FaultyStore()
    async with client_of(store) as client:
        response = await client.request(method, path, **request)
    assert response.status_code < 500, response.text
    check_answer(response)


def _encode(value: object) -> dict[str, Any]:
    # The standard library's encoder writes what a careless client would: NaN, lone surrogates.
    return {"content": json.dumps(value).encode(), "headers": {"content-type": "application/json"}}


@FUZZ
@given(body=NEW_JOB | JSON)
def test_fuzz_one_job(body: object) -> None:
    asyncio.run(_fuzz("POST", "/v1/jobs", **_encode(body)))


@FUZZ
@given(body=st.fixed_dictionaries({"jobs": st.lists(NEW_JOB | JSON, max_size=5)}) | JSON)
def test_fuzz_a_batch(body: object) -> None:
    asyncio.run(_fuzz("POST", "/v1/jobs/batch", **_encode(body)))


@FUZZ
@given(body=st.binary(max_size=60))
def test_fuzz_bytes(body: bytes) -> None:
    asyncio.run(_fuzz("POST", "/v1/jobs", content=body, headers={"content-type": "application/json"}))


PARAMETERS = {p["name"]: near(p["schema"]) for p in DOCUMENT["paths"]["/v1/jobs"]["get"]["parameters"]}


@FUZZ
@given(query=st.fixed_dictionaries({}, optional=PARAMETERS), extra=st.dictionaries(TEXT, TEXT, max_size=1))
def test_fuzz_a_list(query: dict[str, Any], extra: dict[str, str]) -> None:
    params: list[tuple[str, str]] = list(extra.items())
    for name, value in query.items():
        params += [(name, str(item)) for item in (value if isinstance(value, list) else [value])]
    printable = [(name, value) for name, value in params if (name + value).isascii()]
    asyncio.run(_fuzz("GET", "/v1/jobs", params=printable))
