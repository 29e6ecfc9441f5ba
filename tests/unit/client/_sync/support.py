"""What really differs between the tests of the two clients. Its twin in ``_async`` is written by hand too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def together(*calls: Callable[[], T]) -> list[T | BaseException]:
    """Start all calls at once; return their results, or what they raised, in order."""
    with ThreadPoolExecutor(max_workers=len(calls)) as pool:
        running = [pool.submit(call) for call in calls]
        return [future.exception(timeout=30) or future.result() for future in running]


def listed(items: Iterator[T]) -> list[T]:
    """Return all that an iterator yields."""
    return list(items)
