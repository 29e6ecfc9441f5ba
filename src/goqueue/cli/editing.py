"""A text in the user's own editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from goqueue.model.errors import GoQueueError


class EditorFailed(GoQueueError):
    """The user's editor did not run, or ended with an error."""

    code = "editor_failed"


def edited(text: str, *, suffix: str) -> str:
    """Let the user edit a text in VISUAL, EDITOR or vi; return it. Only they can read the file meanwhile.

    Raises `EditorFailed` when the editor cannot be run, or ends with an error: then nothing is to be done.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    descriptor, name = tempfile.mkstemp(prefix="goqueue-", suffix=suffix)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        try:
            done = subprocess.run([*shlex.split(editor), name], check=False)
        except (OSError, ValueError) as e:
            raise EditorFailed(f"cannot run the editor {editor!r}: {e}; set EDITOR") from None
        if done.returncode != 0:
            raise EditorFailed(f"the editor {editor!r} ended with {done.returncode}: nothing was done")
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    finally:
        path.unlink(missing_ok=True)
