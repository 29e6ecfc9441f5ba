"""The OpenAPI 3.1 document, made from the table of operations. Committed as ``contracts/openapi.json``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import msgspec

from goqueue.api import wire
from goqueue.api.operations import OPERATIONS, Operation
from goqueue.api.problem import InternalError
from goqueue.model.job import JobError, JobRecord
from goqueue.model.retry import RetryDelays
from goqueue.service.jobs import JobsPage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from goqueue.model.errors import GoQueueError
    from goqueue.model.job import Json

_REF: Final = "#/components/schemas/{name}"
_NAMES: Final = {
    "NewJobBody": "NewJob",
    "NewJobsBody": "NewJobs",
    "UniqueBody": "Unique",
    "RetryDelaysBody": "NewRetryDelays",
    "JobRecord": "Job",
}
"""What a type is called outside, where its name in Python would read oddly."""
_COMPLETE: Final[dict[str, type[msgspec.Struct]]] = {
    "Job": JobRecord,
    "SubmittedJob": wire.SubmittedJob,
    "JobError": JobError,
    "RetryDelays": RetryDelays,
    "JobsPage": JobsPage,
}
"""Types of answers that are sent with all their fields."""


def document() -> str:
    """Return the document as committed: indented JSON with a newline at its end."""
    return json.dumps(build(), indent=2, ensure_ascii=False) + "\n"


def build() -> dict[str, Json]:
    """Return the document as plain values."""
    types = [t for op in OPERATIONS for t in (op.request, *op.answers.values()) if t is not None]
    _, components = msgspec.json.schema_components([*types, wire.Problem], ref_template=_REF)
    schemas = {_NAMES.get(name, name): _renamed(components[name]) for name in sorted(components)}
    _complete_answers(schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "GoQueue",
            "version": "1",
            "summary": "Submit background jobs, look at them and change them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths(),
        "components": {"schemas": schemas},
    }


def _paths() -> dict[str, Json]:
    paths: dict[str, Json] = {}
    for op in OPERATIONS:
        path = paths.setdefault(op.path, {})
        if isinstance(path, dict):
            path[op.method.lower()] = _operation(op)
    return paths


def _operation(op: Operation) -> Json:
    made: dict[str, Json] = {"operationId": op.name, "summary": op.summary}
    if op.scope is not None:
        made["x-goqueue-scope"] = op.scope.value
    if parameters := [*_parameters(op)]:
        made["parameters"] = parameters
    if op.request is not None:
        made["requestBody"] = {"required": op.body_required, "content": _content("application/json", op.request)}
    responses: dict[str, Json] = {}
    for status, answer in op.answers.items():
        response: dict[str, Json] = {"description": _DESCRIPTIONS[status]}
        if answer is not None:
            response["content"] = _content("application/json", answer)
        elif status != 204:
            response["content"] = {"application/json": {"schema": {"type": "object"}}}
        if op.idempotent:
            response["headers"] = {"Idempotency-Replayed": {"schema": {"const": "true"}}}
        responses[str(status)] = response
    responses.update(_problems(op.errors))
    made["responses"] = responses
    return made


_DESCRIPTIONS: Final = {200: "Done", 201: "Created", 204: "Done; nothing to say"}


def _problems(errors: Iterable[type[GoQueueError]]) -> dict[str, Json]:
    codes: dict[int, set[str]] = {}
    kinds: tuple[type[GoQueueError], ...] = (*errors, InternalError)
    for error in kinds:
        codes.setdefault(error.status, set()).add(error.code)
    problems: dict[str, Json] = {}
    for status in sorted(codes):
        response: dict[str, Json] = {
            "description": "Problem: " + ", ".join(f"`{code}`" for code in sorted(codes[status])),
            "content": _content("application/problem+json", wire.Problem),
        }
        if status == 503:
            response["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
        problems[str(status)] = response
    return problems


def _content(media_type: str, type_: type) -> dict[str, Json]:
    name = type_.__name__
    return {media_type: {"schema": {"$ref": _REF.format(name=_NAMES.get(name, name))}}}


def _parameters(op: Operation) -> Iterable[Json]:
    if "{id}" in op.path:
        yield {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    if op.query is not None:
        _, components = msgspec.json.schema_components([op.query], ref_template=_REF)
        properties = components[op.query.__name__]["properties"]
        for name, property_ in properties.items():
            yield {"name": name, "in": "query", "required": False, "schema": _renamed(property_)}
    if op.idempotent:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same key and body again get the first answer again, and store nothing twice.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }


def _renamed(schema: Json) -> Json:
    """Return the schema with types called by their outside names."""
    if isinstance(schema, list):
        return [_renamed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _renamed(value) for key, value in schema.items()}
    if isinstance(ref := made.get("$ref"), str):
        prefix, _, name = ref.rpartition("/")
        made["$ref"] = f"{prefix}/{_NAMES.get(name, name)}"
    if isinstance(title := made.get("title"), str):
        made["title"] = _NAMES.get(title, title)
    return made


def _complete_answers(schemas: dict[str, Json]) -> None:
    """Say of answers what their types in Python do not: every field is there, instants are RFC 3339."""
    for name, type_ in _COMPLETE.items():
        schema = schemas[name]
        if not isinstance(schema, dict) or not isinstance(properties := schema["properties"], dict):
            continue
        schema["required"] = [*type_.__struct_fields__]
        for field, property_ in properties.items():
            if isinstance(property_, dict):
                property_.pop("default", None)
                if field == "args":
                    property_["type"] = "object"
                if field == "at" or field.endswith("_at"):
                    _say_instant(property_)


def _say_instant(schema: dict[str, Json]) -> None:
    variants = schema.get("anyOf")
    for variant in variants if isinstance(variants, list) else [schema]:
        if isinstance(variant, dict) and variant.get("type") == "string":
            variant["format"] = "date-time"
