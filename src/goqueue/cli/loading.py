"""From ``module:name`` to a `GoQueue`, and what to say when that fails."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from goqueue.model.errors import DefinitionError, GoQueueError, NotConfigured

if TYPE_CHECKING:
    from types import TracebackType

    from goqueue.tasks.app import GoQueue

_NOT_USERS: Final = ("importlib", "goqueue.cli", "goqueue.wiring", "goqueue.engine")


class CannotImport(DefinitionError):
    """The application's module does not import. Its own error is the cause."""


def add_working_folder() -> None:
    """Let modules of the folder that we are in be imported, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def app_name(given: str | None) -> str:
    """Return ``module:name`` from the command line or the settings. Raises `NotConfigured`."""
    from goqueue.configuration import configuration

    found = given or configuration().app
    if not found:
        raise NotConfigured(
            "which application? Give it as module:name (goqueue worker myproject.jobs:app), "
            'or set [tool.goqueue] app = "myproject.jobs:app" in pyproject.toml'
        )
    return found


def import_app(name: str) -> GoQueue:
    """Import the application that ``module:name`` names (``module`` alone: its only `GoQueue`).

    Raises `CannotImport`, whose cause is what the module raised, and `DefinitionError`.
    """
    from goqueue.tasks.app import GoQueue

    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except GoQueueError:
        raise
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise CannotImport(f"cannot import {module_name}: {what}") from error
    if not attribute:
        apps = {key: value for key, value in vars(module).items() if isinstance(value, GoQueue)}
        if len(apps) != 1:
            raise DefinitionError(
                f"{module_name} has {len(apps) or 'no'} GoQueue objects: name it as {module_name}:app"
            )
        return next(iter(apps.values()))
    found: object = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, GoQueue):
        kind = "not there" if found is None else f"of type {type(found).__name__}"
        raise DefinitionError(f"{name} is {kind}, not a GoQueue: make one with `{attribute} = GoQueue()`")
    return found


def show_cause(error: CannotImport) -> None:
    """Write the traceback of what the module raised to stderr, from the first line that is the user's."""
    cause = error.__cause__
    if cause is None:
        return
    shown = cause.with_traceback(_users_part(cause.__traceback__))
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.traceback import Traceback

        Console(stderr=True).print(Traceback.from_exception(type(shown), shown, shown.__traceback__))
    else:
        import traceback

        traceback.print_exception(shown, file=sys.stderr)


def _users_part(first: TracebackType | None) -> TracebackType | None:
    while first is not None and _is_ours(str(first.tb_frame.f_globals.get("__name__", ""))):
        first = first.tb_next
    return first


def _is_ours(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _NOT_USERS) or module.startswith("_frozen")
