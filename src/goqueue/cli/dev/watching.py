"""Which changes of the project's files matter to `goqueue dev`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

DEBOUNCE_MS: Final = 400
IGNORED: Final = ("venv", "env", "site-packages", "build", "dist", ".goqueue", ".ruff_cache", ".direnv")


def settings_files() -> frozenset[str]:
    """Return the names of files in which settings may be."""
    named = os.environ.get("GOQUEUE_CONFIG")
    return frozenset({"pyproject.toml", Path(named).name} if named else {"pyproject.toml"})


def is_available() -> bool:
    """Tell whether files can be watched here (the extra ``dev``)."""
    import importlib.util

    return importlib.util.find_spec("watchfiles") is not None


async def changes(folder: Path, stop: asyncio.Event) -> AsyncIterator[list[Path]]:
    """Yield the Python and settings files under ``folder`` that have changed, gathered for a moment, until ``stop``."""
    from watchfiles import Change, DefaultFilter, awatch

    class Ours(DefaultFilter):
        def __call__(self, change: Change, path: str) -> bool:
            name = Path(path).name
            return (name.endswith(".py") or name in settings_files()) and super().__call__(change, path)

    filter_ = Ours(ignore_dirs=(*DefaultFilter.ignore_dirs, *IGNORED))
    async for found in awatch(
        folder, watch_filter=filter_, stop_event=stop, debounce=DEBOUNCE_MS, ignore_permission_denied=True
    ):
        yield sorted({Path(path) for _, path in found})
