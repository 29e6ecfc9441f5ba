"""How long to wait between tries of something of ours: exponential with full jitter, capped."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Backoff:
    """Delays that double up to a cap, each one anywhere between 0 and its bound ("full jitter")."""

    __slots__ = ("_base_s", "_bound_s", "_cap_s", "_random01")

    def __init__(
        self, *, base_s: float = 0.1, cap_s: float = 5.0, random01: Callable[[], float] = random.random
    ) -> None:
        self._base_s = base_s
        self._cap_s = cap_s
        self._bound_s = 0.0
        self._random01 = random01

    def next_s(self) -> float:
        """Return the next delay in seconds."""
        self._bound_s = min(self._cap_s, self._bound_s * 2 or self._base_s)
        # Never quite nothing: a loop that fails at once must not spin.
        return max(0.01, self._bound_s * self._random01())

    def reset(self) -> None:
        """Begin again: the last try went well."""
        self._bound_s = 0.0
