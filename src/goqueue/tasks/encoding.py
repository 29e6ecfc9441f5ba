"""Python values to JSON and back, for arguments, results and progress: faithful and bounded, or refused.

On top of what msgspec knows (JSON types, dataclasses, its structs, enums, datetimes, UUIDs, decimals …) Pydantic
models are taken, without ever importing Pydantic: who has a model has imported it.
"""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, TypeGuard

import msgspec

from goqueue.model import limits
from goqueue.model.errors import InvalidArguments, InvalidInput, InvalidJob
from goqueue.tasks.codec import check_json

if TYPE_CHECKING:
    from pydantic import BaseModel


def encode(value: object, pointer: str, bytes_max: int, error: type[InvalidInput] = InvalidArguments) -> bytes:
    """Encode to JSON that a store keeps as it is. Raises ``error`` with ``pointer`` for what cannot be."""
    try:
        raw = encoder.encode(value)
    except RecursionError:
        raise error(f"must be nested at most {limits.DEPTH_MAX} deep, and not contain itself", pointer) from None
    except UnicodeEncodeError:
        raise error("must not contain lone surrogates", pointer) from None
    except Exception as e:  # a model's own serializer may raise anything
        raise error(f"cannot be stored as JSON: {e}", pointer) from e
    check_encoded(value, raw, pointer, bytes_max, error)
    return raw


def check_encoded(value: object, raw: bytes, pointer: str, bytes_max: int, error: type[InvalidInput]) -> None:
    """Check what `encode` made of ``value`` against the bounds and for what msgspec changes in silence."""
    # Nearly all values are small, flat and without NUL: they are not looked at twice.
    if len(raw) > bytes_max or raw.count(b"[") + raw.count(b"{") > limits.DEPTH_MAX or b"\\u0000" in raw:
        try:
            check_json(raw, pointer, bytes_max)
        except InvalidJob as e:
            raise error(e.detail, e.pointer) from None
    if b"null" in raw and _not_finite(msgspec.to_builtins(value, enc_hook=_to_plain)):
        # msgspec writes these as null, which would be another value.
        raise error("must not contain NaN or infinity: JSON has no such numbers", pointer)


def encode_result(value: object) -> bytes | None:
    """Encode what a handler returned; None for no result. Raises `InvalidInput` if it cannot be kept."""
    return None if value is None else encode(value, "/result", limits.RESULT_BYTES_MAX, InvalidInput)


def decode_as(raw: bytes, wanted: object) -> object:
    """Decode JSON to the type ``wanted``, or to plain values if that is None. Raises `msgspec.MsgspecError`."""
    return plain_decoder.decode(raw) if wanted is None else _decoder_for(wanted).decode(raw)


def decoder(wanted: object) -> msgspec.json.Decoder[object]:
    """Return a decoder to the type ``wanted``. Raises `TypeError` for a type that msgspec cannot decode to."""
    made: msgspec.json.Decoder[object] = msgspec.json.Decoder(wanted, dec_hook=_from_plain)
    return made


@lru_cache(maxsize=1024)
def _decoder_for(wanted: object) -> msgspec.json.Decoder[object]:
    return decoder(wanted)


def _not_finite(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(_not_finite(v) for v in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return any(_not_finite(v) for v in value)
    return False


# -- Pydantic --------------------------------------------------------------------------------------


def _model_type() -> type[BaseModel] | None:
    pydantic = sys.modules.get("pydantic")
    return None if pydantic is None else pydantic.BaseModel


def is_model(wanted: object) -> TypeGuard[type[BaseModel]]:
    """Tell whether this is the class of a Pydantic model."""
    model = _model_type()
    return model is not None and isinstance(wanted, type) and issubclass(wanted, model)


def _to_plain(value: object) -> object:
    model = _model_type()
    if model is None or not isinstance(value, model):
        raise TypeError(f"no way to encode a {type(value).__qualname__}")
    plain = value.model_dump(mode="json", by_alias=True)
    # A model can dump to something else on purpose (SecretStr gives asterisks): the handler would get that.
    if type(value).model_validate(plain).model_dump() != value.model_dump():
        raise ValueError(f"a {type(value).__qualname__} does not come back from JSON as it was")
    return plain


def _from_plain(wanted: object, value: object) -> object:
    if not is_model(wanted):
        raise TypeError(f"no way to decode to {getattr(wanted, '__qualname__', wanted)}")
    return wanted.model_validate(value)


encoder = msgspec.json.Encoder(enc_hook=_to_plain)
plain_decoder = msgspec.json.Decoder()
