"""When to send a wake-up: the first at once, with the enqueue itself, then at most one per queue and window.

NOTIFY in every commit takes a lock that makes concurrent enqueuers queue up (16 of them fall from 15,400 to 5,500
jobs/s). So a wake-up rides along with an enqueue only if none was sent for its queue within the window; otherwise one
is sent when the window ends.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Wakeups:
    """The wake-ups of one process. Safe to share between threads."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._sent: dict[str, float] = {}
        self._due: set[str] = set()
        self._lock = threading.Lock()

    def leading(self, topics: Iterable[str], now_s: float | None = None) -> tuple[tuple[str, ...], float | None]:
        """Return the topics to notify now; and, if others must wait, in how many seconds to ask for `trailing`.

        The second is None if nobody has to ask: nothing waits, or somebody was told to ask already.
        """
        now_s = time.monotonic() if now_s is None else now_s
        at_once = []
        ask_in_s: float | None = None
        with self._lock:
            for topic in topics:
                if now_s - self._sent.get(topic, -1e9) >= self._window_s and topic not in self._due:
                    self._sent[topic] = now_s
                    at_once.append(topic)
                elif topic not in self._due:
                    if not self._due:
                        ask_in_s = self._window_s - (now_s - self._sent[topic])
                    self._due.add(topic)
            if len(self._sent) > 10_000:
                self._sent.clear()
        return tuple(at_once), ask_in_s

    def trailing(self, now_s: float | None = None) -> tuple[str, ...]:
        """Return the topics that have waited for the end of their window."""
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            due = tuple(sorted(self._due))
            self._due.clear()
            self._sent.update(dict.fromkeys(due, now_s))
        return due


def topic(tenant: str, queue: str) -> str:
    """Name what is notified: the tenant and the queue."""
    return f"{tenant}/{queue}"
