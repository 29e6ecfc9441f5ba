"""A plain script: counts the words of files, one job for each, on whatever workers there are.

In this folder:

    pip install "goqueue[dev]"
    goqueue dev script:app                                # brings a PostgreSQL, and a worker
    python script.py script.py flask_reports.py           # in another terminal
"""

from __future__ import annotations

import sys
from pathlib import Path

from goqueue import Client, GoQueue

app = GoQueue()


@app.task(max_attempts=3)
def count(path: str) -> int:
    """Count the words of a file."""
    return len(Path(path).read_text(encoding="utf-8").split())


def main(paths: list[str]) -> None:
    """Count them all, and print a table."""
    with Client(app) as client:
        handles = client.enqueue_many(count.job(str(Path(path).resolve())) for path in paths)
        for path, job in zip(paths, handles, strict=True):
            print(f"{job.result(timeout_s=60):8} {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
