"""JSON bodies and query strings to typed values; what does not fit is refused with a pointer to the place."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar
from urllib.parse import parse_qsl

import msgspec

from goqueue.api.problem import MalformedJson
from goqueue.api.wire import ListJobsQuery
from goqueue.model import limits
from goqueue.model.errors import InvalidJob, InvalidQuery
from goqueue.model.job import Json

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

_QUERY_FIELDS_MAX: Final = 500
_SCAN_BYTES_MAX: Final = 64 * 1024
"""How far into a body that is nested too deep its field is looked for."""


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw) -> T:
    """Decode a body. Raises `MalformedJson` for what is not JSON and `InvalidJob` for what does not fit."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as e:
        detail, pointer = _explain(str(e))
        raise InvalidJob(detail, pointer) from None
    except RecursionError:
        raise InvalidJob(f"must be nested at most {limits.DEPTH_MAX} deep", _deep_pointer(bytes(body))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        _diagnose(bytes(body), str(e))


# -- the texts of msgspec -------------------------------------------------------------------------

_AT = re.compile(r"^(?P<detail>.*?)(?: - at (?:`key` in )?`(?P<path>\$.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"^Object (?P<what>missing required|contains unknown) field `(?P<name>.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")


def _explain(message: str) -> tuple[str, str]:
    """Split msgspec's text, such as ``Expected `int` - at `$.jobs[0].priority```, into detail and JSON Pointer."""
    match = _AT.match(message)
    detail, path = (match["detail"], match["path"] or "$") if match else (message, "$")
    pointer = ""
    for step in _STEP.finditer(path):
        if step[0] == "[...]":  # a value of an object with free keys; msgspec does not say which
            break
        pointer += "/" + _escape(step[1] if step[1] is not None else step[2])
    if field := _FIELD.match(detail):
        detail = "is required" if field["what"].startswith("missing") else "is not a field of this object"
        pointer += "/" + _escape(field["name"])
    return detail, pointer


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


# -- what JSON allows and we do not ---------------------------------------------------------------


def _diagnose(body: bytes, message: str) -> NoReturn:
    """Tell malformed JSON (400) from JSON with a value that cannot be stored faithfully (422, with a pointer).

    A lone surrogate, for one, is valid JSON; NaN is what several encoders write. The lenient parser of the standard
    library reads both, so that the place can be named.
    """
    try:
        value: Json = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        raise MalformedJson(message) from None
    for pointer, leaf in _leaves(value, ""):
        if isinstance(leaf, float) and (leaf != leaf or leaf in (float("inf"), float("-inf"))):
            raise InvalidJob("must be a finite number: JSON has no NaN or Infinity", pointer)
        if isinstance(leaf, str):
            if any("\ud800" <= c < "\udc80" or "\udcff" < c <= "\udfff" for c in leaf):
                raise InvalidJob("must not contain lone surrogates", pointer)
            if any("\udc80" <= c <= "\udcff" for c in leaf):
                raise InvalidJob("must be valid UTF-8 without lone surrogates", pointer)
    raise MalformedJson(message)


def _leaves(value: Json, pointer: str) -> Iterator[tuple[str, Json]]:
    stack: list[tuple[str, Json]] = [(pointer, value)]
    while stack:
        pointer, value = stack.pop()
        if isinstance(value, dict):
            stack.extend((f"{pointer}/{_escape(key)}", member) for key, member in value.items())
            # A bad key is told at the object that has it.
            yield from ((pointer, key) for key in value)
        elif isinstance(value, list):
            stack.extend((f"{pointer}/{i}", member) for i, member in enumerate(value))
        else:
            yield pointer, value


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_COLON = re.compile(rb"\s*:")


def _deep_pointer(body: bytes) -> str:
    """Name the field (of the job, or of the batch's item) in which the nesting is too deep."""
    path: list[str | int] = []
    key = ""
    for match in _TOKEN.finditer(body[:_SCAN_BYTES_MAX]):
        token = match[0]
        if token in (b"{", b"["):
            if len(path) > limits.DEPTH_MAX:
                break
            path.append("" if token == b"{" else 0)
        elif token in (b"}", b"]"):
            if path:
                path.pop()
        elif token == b",":
            if path and isinstance(path[-1], int):
                path[-1] += 1
        elif path and isinstance(path[-1], str) and _COLON.match(body, match.end()):
            key = token[1:-1].decode("utf-8", "replace")
            path[-1] = key
    else:
        return ""
    steps = 3 if path[0] == "jobs" else 1
    return "".join("/" + _escape(str(step)) for step in path[:steps])


# -- queries --------------------------------------------------------------------------------------

_LISTS: Final = frozenset({"state", "queue", "kind", "tag"})


def decode_list_query(query: bytes) -> ListJobsQuery:
    """Decode the query string of a list. Raises `InvalidQuery`; the pointer names the parameter."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_QUERY_FIELDS_MAX
        )
    except (ValueError, UnicodeDecodeError):
        raise InvalidQuery("must be a percent-encoded UTF-8 query string") from None
    fields: dict[str, str | list[str]] = {}
    for name, value in pairs:
        if name in _LISTS:
            values = fields.setdefault(name, [])
            if isinstance(values, list):
                values.append(value)
        elif name in fields:
            raise InvalidQuery("may be given once", f"/{_escape(name)}")
        else:
            fields[name] = value
    try:
        return msgspec.convert(fields, ListJobsQuery, strict=False)
    except msgspec.ValidationError as e:
        detail, pointer = _explain(str(e))
        raise InvalidQuery(detail, pointer) from None
