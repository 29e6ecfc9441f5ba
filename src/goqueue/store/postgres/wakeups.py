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

    def leading(self, topics: Iterable[str], now_s: float | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the topics to notify with this enqueue, and those to `note` once it is committed."""
        now_s = time.monotonic() if now_s is None else now_s
        at_once = []
        later = []
        with self._lock:
            for topic in topics:
                if now_s - self._sent.get(topic, -1e9) >= self._window_s and topic not in self._due:
                    self._sent[topic] = now_s
                    at_once.append(topic)
                else:
                    later.append(topic)
            if len(self._sent) > 10_000:
                self._sent.clear()
        return tuple(at_once), tuple(later)

    def note(self, topics: Iterable[str], now_s: float | None = None) -> float | None:
        """Note topics whose jobs are committed now; return in how many seconds to ask for `trailing`.

        None if nobody has to ask: there is nothing, or somebody was told to ask already.
        """
        now_s = time.monotonic() if now_s is None else now_s
        ask_in_s: float | None = None
        with self._lock:
            for topic in topics:
                if not self._due:
                    ask_in_s = max(0.0, self._window_s - (now_s - self._sent.get(topic, -1e9)))
                self._due.add(topic)
        return ask_in_s

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


def cancels_topic(tenant: str) -> str:
    """Name what is notified when a running job of the tenant shall be cancelled. No queue has a tab in its name."""
    return f"{tenant}/\tcancels"
