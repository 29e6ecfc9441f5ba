"""What `goqueue dev` says once it is up."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from goqueue.cli.masking import masked

if TYPE_CHECKING:
    from pathlib import Path


def show(*, address: str, url: str, app: str | None, data_dir: Path | None, default_place: bool, reload: bool) -> None:
    """Write the banner to stderr, among the log lines."""
    bold, dim, reset = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if sys.stderr.isatty() else ("", "", "")
    lines = [
        ("server", f"{bold}{address}{reset}  {dim}POST /v1/jobs, /openapi.json{reset}"),
        ("app", _app(app, reload=reload)),
        ("database", masked(url) + ("" if data_dir is not None else "  (your own: GOQUEUE_URL is set)")),
    ]
    if data_dir is not None:
        lines.append(("data", str(data_dir)))
        lines.append(("connect", "in this project by itself; elsewhere GOQUEUE_URL=$(goqueue db url)"))
        if not default_place:
            lines[-1] = ("connect", f"GOQUEUE_URL=$(goqueue db url --data-dir {data_dir})")
    lines.append(("stop", "Ctrl-C"))
    text = "\n".join(f"  {dim}{name:<9}{reset} {value}" for name, value in lines)
    with suppress(OSError):
        sys.stderr.write(f"\n  {bold}goqueue dev{reset}\n{text}\n\n")
        sys.stderr.flush()


def _app(app: str | None, *, reload: bool) -> str:
    if app is None:
        return 'none, so no worker: goqueue dev module:app, or [tool.goqueue] app = "module:app"'
    return f"{app}  ({'reloads on change' if reload else 'no reload: pip install goqueue[dev]'})"
