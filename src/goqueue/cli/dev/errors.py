"""What can be wrong with a PostgreSQL of our own."""

from __future__ import annotations

from typing import ClassVar

from goqueue.model.errors import ConfigurationError, GoQueueError


class EmbeddedUnavailable(ConfigurationError):
    """This machine cannot run a PostgreSQL of our own; the message says what to do instead."""

    code: ClassVar[str] = "embedded_unavailable"


class EmbeddedFailed(GoQueueError):
    """The embedded PostgreSQL did not start or stop; the message has the end of its log."""

    code: ClassVar[str] = "embedded_failed"
