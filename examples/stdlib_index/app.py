"""An application with one real task: count what is in a Python file."""

from __future__ import annotations

from pathlib import Path

from counting import Counts, count

from goqueue import GoQueue
from goqueue.tasks.retry import RetryPolicy

app = GoQueue(name="stdlib_index")


# Parsing is work for the CPU: in processes, so that it neither holds up the worker's event loop nor shares one GIL.
@app.task(max_attempts=3, timeout_s=30, run_in="process", retry=RetryPolicy.list([0.2, 0.5]))
def index_file(path: str) -> Counts:
    """Count the functions, classes and lines of one file."""
    return count(Path(path))


@app.task(max_attempts=1)
async def probe() -> None:
    """Do nothing: what is left is the time that the queue takes."""
