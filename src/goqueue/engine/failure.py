"""What is kept of an exception: its type, message and traceback, cut to their limits with a mark, and storable."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Final

from goqueue.model import limits
from goqueue.model.job import ErrorInfo
from goqueue.tasks.cutting import cut

_BARE: Final = {"builtins", "__main__", __name__}
"""Modules that say nothing to whoever reads the name of an error."""

_OURS: Final = str(Path(__file__).parents[1]) + os.sep
"""Where our own code is."""

FRAMES_MAX: Final = 40
"""Innermost frames of a traceback; a RecursionError has a thousand, and the last ones tell."""


class HandlerDied(Exception):
    """The process in which a ``run_in="process"`` handler ran has died under it."""


class WorkerDied(Exception):
    """The worker process in which the handler ran has died. Only its name is used, by the supervisor."""


class HandlerNotStarted(Exception):
    """No process for the handler would start: this is not the job's doing."""


class DeadlineExceeded(Exception):
    """The job was not started in time (``schedule_to_start_s``), or its total deadline (``deadline_s``) has come."""


class HandlerHung(Exception):
    """The handler went on after it had been told to stop; the worker does not wait for it any longer."""


def describe(error: BaseException, frames_max: int = FRAMES_MAX) -> ErrorInfo:
    """Return what is kept of ``error``. Never raises, whatever the exception's own ``__str__`` does."""
    return ErrorInfo(
        type=cut(_type_name(error), limits.ERROR_TYPE_CHARS_MAX),
        message=cut(_message(error), limits.ERROR_MESSAGE_CHARS_MAX),
        traceback=cut(_traceback(error, frames_max), limits.ERROR_TRACEBACK_CHARS_MAX),
    )


def is_ours(filename: str) -> bool:
    """Tell whether a frame of this file is our own."""
    return filename.startswith(_OURS)


def _type_name(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ in _BARE else f"{cls.__module__}.{cls.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:
        return f"<its message could not be made: {type(broken).__name__}>"


def _traceback(error: BaseException, frames_max: int) -> str:
    try:
        told = traceback.TracebackException(type(error), error, error.__traceback__, limit=-frames_max, compact=True)
        _leave_out_ours(told)
        return "".join(told.format())
    except BaseException as broken:
        return f"<its traceback could not be made: {type(broken).__name__}>"


def _leave_out_ours(told: traceback.TracebackException) -> None:
    """Leave out our own frames at the outer end, of its causes, too: they say nothing of the handler."""
    # The innermost ones stay: that `ctx.wait` was called wrongly is said in our code, under the user's line.
    todo: list[traceback.TracebackException | None] = [told]
    while todo:
        one = todo.pop()
        if one is None:
            continue
        todo += (one.__cause__, one.__context__, *(one.exceptions or ()))
        users = next((i for i, frame in enumerate(one.stack) if not is_ours(frame.filename)), len(one.stack))
        del one.stack[:users]
