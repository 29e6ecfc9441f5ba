"""Binary array parameters for psycopg, built without a Python call per element.

psycopg's list dumper visits each element in Python. A PostgreSQL binary array is a header and,
for each element, a 4-byte length and its bytes; for fixed-size elements one `struct.pack` or one
`bytes.join` makes all of it.
"""

import struct
from collections.abc import Sequence

from psycopg import AsyncConnection
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format


class _Packed(bytes):
    """The binary form of an array; each subclass is one array type."""


class UuidArray(_Packed): ...


class Int8Array(_Packed): ...


class Int4Array(_Packed): ...


class Int2Array(_Packed): ...


class Float8Array(_Packed): ...


class TextArray(_Packed): ...


class TimestamptzArray(_Packed): ...


ARRAY_OIDS: dict[type[_Packed], int] = {
    UuidArray: 2951,
    Int8Array: 1016,
    Int4Array: 1007,
    Int2Array: 1005,
    Float8Array: 1022,
    TextArray: 1009,
    TimestamptzArray: 1185,
}
_HEADER = struct.Struct(">iiIii")  # dimensions, has nulls, element type, length, lower bound
_NULL = b"\xff\xff\xff\xff"


def _header(oid: int, count: int, *, nulls: bool = False) -> bytes:
    if count == 0:
        return struct.pack(">iiI", 0, 0, oid)
    return _HEADER.pack(1, int(nulls), oid, count, 1)


def uuids(values: Sequence[bytes]) -> UuidArray:
    """16-byte values to `uuid[]`."""
    return UuidArray(b"\x00\x00\x00\x10".join([_header(2950, len(values)), *values]))


def _fixed(values: Sequence[float], oid: int, size: int, code: str) -> bytes:
    pairs: list[float] = [size] * (2 * len(values))
    pairs[1::2] = values
    return _header(oid, len(values)) + struct.pack(">" + ("i" + code) * len(values), *pairs)


def int8s(values: Sequence[int]) -> Int8Array:
    """Integers to `int8[]`."""
    return Int8Array(_fixed(values, 20, 8, "q"))


def int4s(values: Sequence[int]) -> Int4Array:
    """Integers to `int4[]`."""
    return Int4Array(_fixed(values, 23, 4, "i"))


def int2s(values: Sequence[int]) -> Int2Array:
    """Integers to `int2[]`."""
    return Int2Array(_fixed(values, 21, 2, "h"))


def float8s(values: Sequence[float]) -> Float8Array:
    """Floats to `float8[]`."""
    return Float8Array(_fixed(values, 701, 8, "d"))


def texts(values: Sequence[str | None]) -> TextArray:
    """Strings and nulls to `text[]`."""
    if not any(values) and "" not in values:
        return TextArray(_header(25, len(values), nulls=True) + _NULL * len(values))
    parts = [_header(25, len(values), nulls=None in values)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            raw = value.encode()
            parts.append(len(raw).to_bytes(4))
            parts.append(raw)
    return TextArray(b"".join(parts))


def _dumper(array: type[_Packed], array_oid: int) -> type[Dumper]:
    class PackedDumper(Dumper):
        format = Format.BINARY
        oid = array_oid

        def dump(self, obj: Buffer) -> Buffer:
            return obj

    PackedDumper.__name__ = f"{array.__name__}Dumper"
    return PackedDumper


def register(connection: AsyncConnection[object]) -> None:
    """Teach one connection (or, in a program, the adapters of a pool) the packed types."""
    for array, oid in ARRAY_OIDS.items():
        connection.adapters.register_dumper(array, _dumper(array, oid))
