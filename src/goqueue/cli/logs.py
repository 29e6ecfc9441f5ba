"""Log lines of a process: for people, or as JSON. To stderr; a terminal that has gone away is no error."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from goqueue.cli.options import LogFormat

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    Event = MutableMapping[str, Any]  # Any: as structlog has it
    Processor = Callable[[Any, str, Event], Any]

_WORKER_LOGGERS: Final = ("goqueue.engine", "goqueue.supervisor")
_OUTCOMES_LOGGER: Final = "goqueue.engine"
_OUTCOMES: Final = ("retry", "dead", "snooze", "cancel")
_LEVEL_WIDTH: Final = 7


def configure(
    format: LogFormat,
    *,
    source: str = "",
    by_logger: bool = False,
    level: int = logging.INFO,
    outcomes: bool = True,
) -> None:
    """Set up structlog, and the standard library's logging with it, for this process.

    ``source`` is written in each line for people; with ``by_logger`` what comes from the worker's rooms says so.
    Without ``outcomes`` the engine does not say how jobs end: for a command that says so itself.
    """
    add_source = _AddSource(source, by_logger=by_logger)
    shared: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    if format is LogFormat.JSON:
        shared += [structlog.processors.TimeStamper(fmt="iso", utc=True), _AddLogger()]
        shared += [structlog.processors.dict_tracebacks]
        renderer: Processor = structlog.processors.JSONRenderer()
    else:
        shared += [structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False), add_source]
        renderer = _for_people()
    structlog.configure(
        processors=[*([] if outcomes else [_drop_outcomes]), *shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Logger,
        cache_logger_on_first_use=True,
    )
    handler = _Quiet(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class _Logger:
    """What structlog writes to: stderr, with a name that processors can ask for."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def msg(self, message: str) -> None:
        with suppress(OSError, ValueError):  # the terminal was closed
            sys.stderr.write(message + "\n")
            sys.stderr.flush()

    log = debug = info = warn = warning = error = critical = exception = fatal = failure = msg


class _Quiet(logging.StreamHandler[Any]):  # Any: of whatever stream stderr is
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Nobody is there to be told."""


def _drop_outcomes(logger: Any, _method: str, event: Event) -> Event:  # Any: either logging's or ours
    if getattr(logger, "name", "") == _OUTCOMES_LOGGER and event["event"] in _OUTCOMES:
        raise structlog.DropEvent
    return event


class _AddSource:
    def __init__(self, source: str, *, by_logger: bool) -> None:
        self._source = source
        self._by_logger = by_logger

    def __call__(self, logger: Any, _method: str, event: Event) -> Event:  # Any: either logging's or ours
        name = getattr(logger, "name", "") or ""
        if self._by_logger and name.startswith(_WORKER_LOGGERS):
            event["source"] = "worker"
        elif self._source:
            event["source"] = self._source
        return event


class _AddLogger:
    def __call__(self, logger: Any, _method: str, event: Event) -> Event:  # Any: as above
        event["logger"] = getattr(logger, "name", "") or ""
        return event


def _for_people() -> Processor:
    from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter

    color = sys.stderr.isatty()

    def style(code: str) -> str:
        return f"\x1b[{code}m" if color else ""

    reset = style("0")

    def plain(code: str, width: int = 0) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(
            key_style=None, value_style=style(code), reset_style=reset, value_repr=str, width=width
        )

    levels = {"warning": "33", "error": "31", "critical": "1;31", "info": "32", "debug": "2"}

    def level(key: str, value: object) -> str:  # noqa: ARG001  the shape of a formatter
        text = "warn" if value == "warning" else str(value)
        return f"{style(levels.get(str(value), '0'))}{text:<5}{reset}"

    rest = KeyValueColumnFormatter(
        key_style=style("36"), value_style="", reset_style=reset, value_repr=_short, prefix="", postfix=""
    )
    return ConsoleRenderer(
        sort_keys=False,
        columns=[
            Column("timestamp", plain("2")),
            Column("level", level),
            Column("source", plain("35", _LEVEL_WIDTH)),
            Column("event", plain("1", 12)),
            Column("", rest),
        ],
        exception_formatter=structlog.dev.plain_traceback,
    )


def _short(value: object) -> str:
    text = str(value) if isinstance(value, str) else repr(value)
    return repr(text) if not text or "\n" in text else text
