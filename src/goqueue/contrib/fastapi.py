"""GoQueue in FastAPI: a lifespan that opens and closes a client, and a dependency that gives it.

api = FastAPI(lifespan=lifespan(app))

@api.post("/orders")
async def order(queue: GoQueueClient) -> str:
    return (await queue.enqueue(send_email.job(...))).id
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends

from goqueue.contrib.starlette import STATE, get_client, lifespan
from goqueue.wiring import AsyncClient

__all__ = ["STATE", "GoQueueClient", "get_client", "lifespan"]

GoQueueClient: TypeAlias = Annotated[AsyncClient, Depends(get_client)]
"""Annotate a parameter with it, and it is the application's client."""
