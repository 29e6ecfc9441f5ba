"""Enqueues many jobs as one run, and says how far it is: ``python bulk_feed.py RUN_ID COUNT``. To be killed."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from goqueue import Client, EnqueuedMany, NewJob


def jobs(count: int) -> Iterator[NewJob[object]]:
    for n in range(count):
        yield NewJob(kind="row", args=b'{"n":%d}' % n)


def tell(done: EnqueuedMany) -> None:
    print(done.taken, flush=True)


if __name__ == "__main__":
    run_id, count = sys.argv[1], int(sys.argv[2])
    with Client() as client:
        total = client.enqueue_many(jobs(count), run_id=run_id, handles=False, progress=tell)
    print("end", total.stored, total.existing, flush=True)
