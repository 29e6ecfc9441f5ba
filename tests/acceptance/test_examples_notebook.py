"""The notebook, executed from the first cell to the last, in a kernel of its own, with a worker beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.examples import copied

CELL_S = 60


def text_of(cell: Any) -> str:
    """What a cell has written, and its value."""
    parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "".join(parts)


async def test_the_notebook_runs(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with copied(tmp_path, database_url, monkeypatch, part="notebook") as place:
        worker = place.start("worker", "words:app", GOQUEUE_WORKER_BEAT_S="0.2")
        notebook = nbformat.read(place.folder / "goqueue.ipynb", as_version=4)  # type: ignore[no-untyped-call]  # it has no types
        resources = {"metadata": {"path": str(place.folder)}}
        await NotebookClient(notebook, timeout=CELL_S, kernel_name="python3", resources=resources).async_execute()
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert "progress: " in text_of(code[1])
        assert "'the': 2" in text_of(code[1])
        assert text_of(code[2]) == "9"
        assert worker.stop() == 0
