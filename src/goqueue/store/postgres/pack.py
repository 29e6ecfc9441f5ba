"""Binary array parameters for psycopg, built without a Python call for each element.

psycopg's list dumper visits each element in Python, which costs more than all the rest of a claim
(docs/why/driver.md). A PostgreSQL binary array is a header and, for each element, a 4-byte length and its bytes
(https://www.postgresql.org/docs/current/protocol-overview.html, array_send in the server's source).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from psycopg.adapt import AdaptersMap, Buffer, Dumper
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

_HEADER = struct.Struct(">iiIii")  # dimensions, has nulls, element type, length, lower bound
_NULL = b"\xff\xff\xff\xff"
_POSTGRES_EPOCH_S = 946_684_800
_NIL = bytes(16)


class Packed(bytes):
    """The binary form of an array; each subclass is one array type."""

    oid: int = 0


class UuidArray(Packed):
    """``uuid[]``."""

    oid = 2951


class Int8Array(Packed):
    """``int8[]``."""

    oid = 1016


class Int4Array(Packed):
    """``int4[]``."""

    oid = 1007


class Int2Array(Packed):
    """``int2[]``."""

    oid = 1005


class Float8Array(Packed):
    """``float8[]``."""

    oid = 1022


class TextArray(Packed):
    """``text[]``."""

    oid = 1009


class ByteaArray(Packed):
    """``bytea[]``."""

    oid = 1001


class TimestamptzArray(Packed):
    """``timestamptz[]``."""

    oid = 1185


_KINDS: Final = (UuidArray, Int8Array, Int4Array, Int2Array, Float8Array, TextArray, ByteaArray, TimestamptzArray)


def uuid_bytes(text: str) -> bytes:
    """Return the 16 bytes of a UUID in its hyphenated form; for what is no UUID the nil one, which no job has."""
    try:
        raw = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return _NIL
    return raw if len(raw) == 16 else _NIL


def uuids(values: Iterable[str]) -> UuidArray:
    """UUIDs in hyphenated form to ``uuid[]``; see `uuid_bytes`."""
    raw = [uuid_bytes(v) for v in values]
    return UuidArray(b"\x00\x00\x00\x10".join([_header(2950, len(raw)), *raw]))


def int8s(values: Sequence[int]) -> Int8Array:
    """Whole numbers to ``int8[]``."""
    return Int8Array(_fixed(values, 20, 8, "q"))


def int4s(values: Sequence[int]) -> Int4Array:
    """Whole numbers to ``int4[]``."""
    return Int4Array(_fixed(values, 23, 4, "i"))


def int2s(values: Sequence[int]) -> Int2Array:
    """Whole numbers to ``int2[]``."""
    return Int2Array(_fixed(values, 21, 2, "h"))


def float8s(values: Sequence[float | None]) -> Float8Array:
    """Numbers and nulls to ``float8[]``."""
    if None not in values:
        return Float8Array(_fixed(values, 701, 8, "d"))
    return Float8Array(_varied([None if v is None else struct.pack(">d", v) for v in values], 701))


def texts(values: Sequence[str | None]) -> TextArray:
    """Texts and nulls to ``text[]``; a lone surrogate, which UTF-8 cannot hold, becomes a question mark."""
    if _is_constant(values):  # the names in a bulk: encode one
        return TextArray(_varied([None if values[0] is None else values[0].encode(errors="replace")] * len(values), 25))
    return TextArray(_varied([None if v is None else v.encode(errors="replace") for v in values], 25))


def raw_texts(values: Sequence[bytes | None]) -> TextArray:
    """UTF-8 bytes and nulls to ``text[]``."""
    return TextArray(_varied(values, 25))


def byteas(values: Sequence[bytes | None]) -> ByteaArray:
    """Bytes and nulls to ``bytea[]``."""
    return ByteaArray(_varied(values, 17))


def instants(values: Sequence[datetime | None]) -> TimestamptzArray:
    """Aware instants and nulls to ``timestamptz[]``, to the microsecond."""
    return TimestamptzArray(_varied([None if v is None else struct.pack(">q", _microseconds(v)) for v in values], 1184))


def array_literal(values: Sequence[str]) -> str:
    """Return PostgreSQL's text form of a ``text[]``, which a statement casts: arrays of arrays cannot be ragged."""
    return "{" + ",".join('"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values) + "}"


def register(adapters: AdaptersMap) -> None:
    """Teach adapters the packed types."""
    for kind in _KINDS:
        adapters.register_dumper(kind, _dumper(kind))


def _microseconds(value: datetime) -> int:
    from datetime import UTC, datetime, timedelta

    return (value - datetime.fromtimestamp(_POSTGRES_EPOCH_S, UTC)) // timedelta(microseconds=1)


def _header(oid: int, count: int, *, nulls: bool = False) -> bytes:
    if count == 0:
        return struct.pack(">iiI", 0, 0, oid)
    return _HEADER.pack(1, int(nulls), oid, count, 1)


def _is_constant(values: Sequence[object]) -> bool:
    """Tell whether there are values and all are the same."""
    return bool(values) and values.count(values[0]) == len(values)


def _fixed(values: Sequence[float | None], oid: int, size: int, code: str) -> bytes:
    if _is_constant(values):
        return _header(oid, len(values)) + struct.pack(">i" + code, size, values[0]) * len(values)
    pairs: list[float | None] = [size] * (2 * len(values))
    pairs[1::2] = values
    return _header(oid, len(values)) + struct.pack(">" + ("i" + code) * len(values), *pairs)


def _varied(values: Sequence[bytes | None], oid: int) -> bytes:
    count = len(values)
    if _is_constant(values):
        value = values[0]
        item = _NULL if value is None else len(value).to_bytes(4, "big") + value
        return _header(oid, count, nulls=value is None) + item * count
    parts = [_header(oid, count, nulls=None in values)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts.append(len(value).to_bytes(4, "big"))
            parts.append(value)
    return b"".join(parts)


def _dumper(kind: type[Packed]) -> type[Dumper]:
    class PackedDumper(Dumper):
        format = Format.BINARY
        oid = kind.oid

        def dump(self, obj: Buffer) -> Buffer:
            return obj

    PackedDumper.__name__ = f"{kind.__name__}Dumper"
    return PackedDumper
