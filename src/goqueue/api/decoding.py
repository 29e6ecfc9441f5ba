"""JSON bodies and query strings to typed values; what does not fit is refused with a pointer to the place."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, TypeVar
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
_Undecodable = msgspec.DecodeError | UnicodeDecodeError

_QUERY_FIELDS_MAX: Final = 500
_SCAN_BYTES_MAX: Final = 64 * 1024
"""How far into a body that is nested too deep its field is looked for."""


LOCATE_BYTES_MAX: Final = 256 * 1024
"""In a body up to this size the place of a value that JSON lacks is looked for: up to some 80 ms of the event loop."""


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, *, locate: bool = True) -> T:
    """Decode a body. Raises `MalformedJson` for what is not JSON and `InvalidJob` for what does not fit.

    With ``locate=False`` it spends no time on finding the place of NaN, a lone surrogate or bytes that are not UTF-8.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as e:
        detail, pointer = _explain(str(e))
        raise InvalidJob(detail, pointer) from None
    except RecursionError:
        raise InvalidJob(f"must be nested at most {limits.DEPTH_MAX} deep", _deep_pointer(bytes(body))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        if locate and memoryview(body).nbytes <= LOCATE_BYTES_MAX:
            _diagnose(bytes(body), e)
        _diagnose_large(body, e)


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


_NOT_FINITE = "must be a finite number: JSON has no NaN or Infinity"
_LONE = "must not contain lone surrogates"
_NOT_UTF8 = "must be valid UTF-8 without lone surrogates"
_SURROGATE = re.compile("[\ud800-\udfff]")
_BAD_BYTE = re.compile("[\udc80-\udcff]")
"""What ``surrogateescape`` makes of a byte that is not UTF-8."""


def _diagnose(body: bytes, error: _Undecodable) -> NoReturn:
    """Tell malformed JSON (400) from JSON with a value that cannot be stored faithfully (422, with a pointer).

    A lone surrogate, for one, is valid JSON; NaN is what several encoders write. The lenient parser of the standard
    library reads both, so that the place can be named.
    """
    try:
        value: Json = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        raise MalformedJson(str(error)) from None
    for place, leaf in _leaves(value):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise InvalidJob(_NOT_FINITE, _pointer(place))
        if isinstance(leaf, str) and (found := _SURROGATE.search(leaf)):
            raise InvalidJob(_NOT_UTF8 if _BAD_BYTE.match(found[0]) else _LONE, _pointer(place))
    raise MalformedJson(str(error))


_OFFSET = re.compile(r"\(byte (\d+)\)")
_FOUND_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPES_BYTES: Final = 12
"""Of two ``\\uXXXX``."""


def _diagnose_large(body: bytes | msgspec.Raw, error: _Undecodable) -> NoReturn:
    """Tell the same from what the parser says and the bytes where it stopped: without a pointer, but at once."""
    if isinstance(error, UnicodeDecodeError):
        raise InvalidJob(_NOT_UTF8) from None
    message = str(error)
    if offset := _OFFSET.search(message):
        at = int(offset[1])
        around = bytes(memoryview(body)[max(0, at - _ESCAPES_BYTES) : at + _ESCAPES_BYTES])
        if around[min(at, _ESCAPES_BYTES) :].startswith((b"NaN", b"Infinity")):
            raise InvalidJob(_NOT_FINITE) from None
        if ("surrogate" in message or "escape" in message) and _FOUND_SURROGATE.search(around):
            raise InvalidJob(_LONE) from None
    raise MalformedJson(message) from None


class _Place(NamedTuple):
    """Where a value is. A pointer for each value would take the square of the body's size: keys can be long."""

    parent: _Place | None
    step: str | int


def _pointer(place: _Place | None) -> str:
    steps: list[str] = []
    while place is not None:
        steps.append("/" + _escape(str(place.step)))
        place = place.parent
    return "".join(reversed(steps))


def _leaves(value: Json) -> Iterator[tuple[_Place | None, Json]]:
    stack: list[tuple[_Place | None, Json]] = [(None, value)]
    while stack:
        place, value = stack.pop()
        if isinstance(value, dict):
            stack.extend((_Place(place, key), member) for key, member in value.items())
            # A bad key is told at the object that has it.
            yield from ((place, key) for key in value)
        elif isinstance(value, list):
            stack.extend((_Place(place, i), member) for i, member in enumerate(value))
        else:
            yield place, value


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
"""A string may end with the bytes: were it no token, each escaped quote in it would be tried as the start of one."""
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
