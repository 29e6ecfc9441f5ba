"""Errors as one line on stderr, and the exit code that stands for each."""

from __future__ import annotations

import sys
from typing import Final

from goqueue.model.errors import (
    AccessError,
    CannotStart,
    ConfigurationError,
    GoQueueError,
    InvalidInput,
    NotFound,
    StoreUnavailable,
)

FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
NOT_ALLOWED: Final = 4
UNREACHABLE: Final = 5
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""


def exit_code(error: GoQueueError) -> int:
    """Return the exit code for an error."""
    match error:
        case NotFound():
            return NOT_FOUND
        case AccessError():
            return NOT_ALLOWED
        case StoreUnavailable():
            return UNREACHABLE
        case CannotStart():
            return FAILED  # an application that cannot be imported, most often
        case InvalidInput() | ConfigurationError():
            return USAGE
        case _:
            return FAILED


def tell(error: GoQueueError) -> None:
    """Write an error to stderr: what is wrong, what to do, and its stable code."""
    text = str(error).strip() or type(error).__doc__ or type(error).__name__
    first, *rest = text.splitlines()
    line = f"goqueue: {first} [{error.code}]"
    if sys.stderr.isatty():
        line = f"\x1b[31mgoqueue:\x1b[0m {first} \x1b[2m[{error.code}]\x1b[0m"
    sys.stderr.write("\n".join([line, *rest, *getattr(error, "__notes__", ())]) + "\n")
