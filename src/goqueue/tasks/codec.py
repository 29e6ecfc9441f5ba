"""JSON in and out: faithful, bounded, or refused with a pointer to the place."""

from __future__ import annotations

import re
from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import msgspec

from goqueue.model import limits
from goqueue.model.errors import InvalidJob

if TYPE_CHECKING:
    from goqueue.model.job import Json

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""Opening brackets to 1, closing ones to -1 as a signed byte: a running sum is the depth."""

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
_sorted_encoder = msgspec.json.Encoder(order="deterministic")


class CheckedArgs(bytes):
    """Arguments that whoever encoded them has checked as `check_json` does: they are not looked at a second time."""

    __slots__ = ()


def check_json(raw: bytes, pointer: str, bytes_max: int, *, must_be_object: bool = False) -> None:
    """Check that encoded JSON can be stored faithfully: valid, not too large or deep, no NUL, no lone surrogate.

    Raises `InvalidJob`. NUL is refused because a PostgreSQL text cannot hold it: whoever reads the job with SQL
    would meet an error later.
    """
    if len(raw) > bytes_max:
        raise InvalidJob(f"must have at most {bytes_max} bytes as JSON, has {len(raw)}", pointer)
    if _too_deep(raw):
        raise InvalidJob(f"must be nested at most {limits.DEPTH_MAX} deep", pointer)
    try:
        value = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise InvalidJob(f"must be valid JSON: {e}", pointer) from None
    if must_be_object and not isinstance(value, dict):
        raise InvalidJob("must be a JSON object", pointer)
    if b"\\u0000" in raw and _has_nul(value):
        raise InvalidJob("must not contain NUL (U+0000)", pointer)


def encode(value: object) -> bytes:
    """Encode to JSON. Raises `TypeError` or `ValueError` for what JSON cannot hold."""
    return _encoder.encode(value)


def decode(raw: bytes) -> Json:
    """Decode JSON to plain Python values."""
    value: Json = _decoder.decode(raw)
    return value


def canonical(raw: bytes) -> bytes:
    """Return the same JSON with sorted keys and no white space: equal values give equal bytes.

    Numbers keep their type: ``1`` and ``1.0`` differ.
    """
    return _sorted_encoder.encode(_decoder.decode(raw))


def _too_deep(raw: bytes) -> bool:
    # An upper bound first: few documents have many opening brackets, and only those are looked at closely.
    if raw.count(b"[") + raw.count(b"{") <= limits.DEPTH_MAX:
        return False
    # In C throughout: a document of 1 MiB must not hold up an event loop.
    brackets = _STRING.sub(b"", raw).translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(array("b", brackets)), default=0) > limits.DEPTH_MAX


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, list):
        return any(_has_nul(v) for v in value)
    if isinstance(value, dict):
        return any("\0" in k or _has_nul(v) for k, v in value.items())
    return False
