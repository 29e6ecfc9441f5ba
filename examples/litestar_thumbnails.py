"""Litestar: a plugin opens the client, and handlers take it as a parameter.

In this folder:

    pip install "goqueue[dev]" litestar uvicorn
    goqueue dev litestar_thumbnails:jobs                  # brings a PostgreSQL, and a worker
    export GOQUEUE_URL=$(goqueue db url)                  # in another terminal
    uvicorn litestar_thumbnails:api --port 8000
    curl -X POST 'localhost:8000/thumbnails?image=cat.png'
"""

from __future__ import annotations

from litestar import Litestar, post
from litestar.di import NamedDependency
from litestar.params import FromQuery

from goqueue import AsyncClient, GoQueue
from goqueue.contrib.litestar import GoQueuePlugin

jobs = GoQueue()


@jobs.task(timeout_s=30)
def thumbnail(image: str, width: int = 128) -> str:
    """Stands for work that takes a while; a plain function, so it runs in a thread of the worker."""
    return f"{image.removesuffix('.png')}-{width}.png"


@post("/thumbnails")
async def make(image: FromQuery[str], queue: NamedDependency[AsyncClient]) -> dict[str, str]:
    """Wait for the result, because it comes soon; otherwise answer with ``job.id`` and let them ask again."""
    job = await queue.enqueue(thumbnail.job(image).options(unique=True))
    return {"thumbnail": await job.result(timeout_s=30)}


api = Litestar([make], plugins=[GoQueuePlugin(jobs)])
