"""When to send a wake-up: the first at once, with the enqueue itself, then at most one per queue and half a window.

NOTIFY in every commit takes a lock that makes concurrent enqueuers queue up (16 of them fall from 15,400 to 5,500
jobs/s). So a wake-up rides along with an enqueue only if none was sent for its queue within half of the window; if no
enqueue comes by, one is sent by itself when the window ends.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


_RIDE_SHARE: Final = 0.5
"""Part of the window after which an enqueue carries what others would have sent at its end: a statement less."""
_SLACK_SHARE: Final = 0.1
"""Part of the window by which one may be sent early, so that many queues need few statements."""
_TOPICS_MAX: Final = 10_000


class Wakeups:
    """The wake-ups of one process. Safe to share between threads."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._sent: dict[str, float] = {}
        self._due: dict[str, float] = {}
        """Topics that wait, and when their windows end."""
        self._asked = False
        """Whether somebody will ask for `trailing`."""
        self._lock = threading.Lock()

    def leading(self, topics: Iterable[str], now_s: float | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the topics to notify with this enqueue, and those to `note` once it is committed.

        Say `carried` once it is committed. Until then topics that wait go on waiting: it may fail, or take long.
        """
        now_s = time.monotonic() if now_s is None else now_s
        at_once = []
        later = []
        with self._lock:
            for topic in topics:
                if now_s - self._sent.get(topic, -math.inf) >= self._window_s * _RIDE_SHARE:
                    self._sent[topic] = now_s
                    at_once.append(topic)
                else:
                    later.append(topic)
            if len(self._sent) > _TOPICS_MAX:
                self._sent.clear()
        return tuple(at_once), tuple(later)

    def carried(self, topics: Iterable[str], since_s: float) -> None:
        """Note that an enqueue which began at ``since_s`` has notified these: for those that waited by then, too.

        What was noted later may have been committed after the notification, and waits on.
        """
        with self._lock:
            for topic in topics:
                if self._due.get(topic, math.inf) < since_s + self._window_s:
                    del self._due[topic]

    def note(self, topics: Iterable[str], now_s: float | None = None) -> float | None:
        """Note topics whose jobs are committed now; return in how many seconds to ask for `trailing`.

        None if nobody has to ask: there is nothing, or somebody was told to ask already.
        """
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            for topic in topics:
                self._due.setdefault(topic, self._sent.get(topic, -math.inf) + self._window_s)
            return None if self._asked else self._ask(now_s)

    def trailing(self, now_s: float | None = None) -> tuple[tuple[str, ...], float | None]:
        """Return the topics that have waited for the end of their window, and in how many seconds to ask again."""
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            by_s = now_s + self._window_s * _SLACK_SHARE
            due = tuple(sorted(topic for topic, at_s in self._due.items() if at_s <= by_s))
            for topic in due:
                del self._due[topic]
                if now_s < math.inf:  # the last ones, at the close: who is still enqueueing goes on as before
                    self._sent[topic] = now_s
            return due, self._ask(now_s)

    def _ask(self, now_s: float) -> float | None:
        self._asked = bool(self._due)
        return max(0.0, min(self._due.values()) - now_s) if self._due else None


def topic(tenant: str, queue: str) -> str:
    """Name what is notified: the tenant and the queue."""
    return f"{tenant}/{queue}"


def cancels_topic(tenant: str) -> str:
    """Name what is notified when a running job of the tenant shall be cancelled. No queue has a tab in its name."""
    return f"{tenant}/\tcancels"
