"""FastAPI and SQLAlchemy: an order and its mail in one transaction, and the mail's state to ask for.

In this folder:

    pip install "goqueue[dev]" fastapi uvicorn "sqlalchemy[asyncio]"
    goqueue dev fastapi_orders:jobs                       # brings a PostgreSQL, and a worker
    export GOQUEUE_URL=$(goqueue db url)                  # in another terminal
    uvicorn fastapi_orders:api --port 8000
    curl localhost:8000/orders -H 'content-type: application/json' -d '{"email": "ada@example.com"}'
    curl localhost:8000/jobs/JOB_ID                       # as the first answer says
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypeAlias

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from goqueue import GoQueue
from goqueue.contrib.fastapi import GoQueueClient, lifespan

jobs = GoQueue()


@jobs.task(max_attempts=5)
async def send_confirmation(order_id: int, email: str) -> str:
    """Stands for a mail."""
    return f"order {order_id} confirmed to {email}"


# -- the web application's own: a table, and a session for each request --------------------------------


class Base(DeclarativeBase):
    """Of all tables."""


class Order(Base):
    """Somebody has bought something."""

    __tablename__ = "example_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


engine = create_async_engine(os.environ["GOQUEUE_URL"].replace("postgresql://", "postgresql+psycopg://", 1))
new_session = async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def own_lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Make the table, and close the pool."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


async def get_session() -> AsyncIterator[AsyncSession]:
    """One transaction for a request: committed unless something is raised."""
    async with new_session.begin() as session:
        yield session


# FastAPI ends the transaction before the answer is sent.
Session: TypeAlias = Annotated[AsyncSession, Depends(get_session, scope="function")]

# -- what GoQueue adds ----------------------------------------------------------------------------------

api = FastAPI(lifespan=lifespan(jobs, around=own_lifespan))


class NewOrder(BaseModel):
    """What is posted."""

    email: str


@api.post("/orders", status_code=201)
async def order(new: NewOrder, session: Session, queue: GoQueueClient) -> dict[str, str]:
    """Store an order and its mail: both, or neither."""
    row = Order(email=new.email)
    session.add(row)
    await session.flush()
    job = await queue.enqueue(send_confirmation.job(row.id, row.email), conn=session)
    if "@" not in new.email:
        raise HTTPException(422, "that is no address")  # even this late: the transaction is rolled back with both
    return {"job": job.id}


@api.get("/jobs/{job_id}")
async def state(job_id: str, queue: GoQueueClient) -> dict[str, str | None]:
    """Say how far a job is, and its result."""
    job = await queue.get(job_id)
    done = str(await job.state()) == "completed"
    return {"state": str(await job.state()), "result": await job.result(timeout_s=5) if done else None}
