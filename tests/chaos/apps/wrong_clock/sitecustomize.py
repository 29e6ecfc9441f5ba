"""A process whose clock is wrong: Python imports this at its start when the folder is in PYTHONPATH.

Shifts the time of day by the seconds in GOQUEUE_TEST_CLOCK_S wherever Python code asks for it, and leaves the monotonic
clock alone, as a wrongly set machine has it. (libfaketime would be the usual way; with it, `time.sleep` fails in 3.11.)
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import os
import time
from typing import Any

SHIFT_S = float(os.environ.get("GOQUEUE_TEST_CLOCK_S", "0"))

_time, _time_ns = time.time, time.time_ns


def _shifted_time() -> float:
    return _time() + SHIFT_S


def _shifted_time_ns() -> int:
    return _time_ns() + int(SHIFT_S * 1e9)


def _now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> datetime.datetime:
    return cls.fromtimestamp(_shifted_time(), tz)


def _set(type_: type, name: str, value: object) -> None:
    # The namespace of a type that is written in C, behind the proxy that `__dict__` is.
    namespace: dict[str, Any] = gc.get_referents(type_.__dict__)[0]
    namespace[name] = value
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(type_))


def _shift_uuids() -> None:
    try:
        import uuid_utils
    except ImportError:
        return  # Python 3.14 makes them itself, from the clock that is shifted already
    made = uuid_utils.uuid7

    def uuid7(*args: Any, **kwargs: Any) -> uuid_utils.UUID:
        raw = made(*args, **kwargs).bytes
        milliseconds = int.from_bytes(raw[:6], "big") + int(SHIFT_S * 1000)
        return uuid_utils.UUID(bytes=milliseconds.to_bytes(6, "big") + raw[6:])

    uuid_utils.uuid7 = uuid7


if SHIFT_S:
    time.time, time.time_ns = _shifted_time, _shifted_time_ns
    _set(datetime.datetime, "now", classmethod(_now))
    _shift_uuids()
