"""The sandbox and many jobs: batch handlers, and waiting for all."""

from __future__ import annotations

import pytest

from goqueue import BatchContext, GoQueue, JobFailed, ResultTimeout, RetryPolicy
from goqueue.testing import AsyncSandbox, Sandbox

app = GoQueue(retry=RetryPolicy.fixed(60))


@app.batch_task(max_wait_s=60)  # nothing waits for so long in a test
def double(numbers: list[int]) -> list[int | Exception]:
    return [2 * number if number else ValueError("zero") for number in numbers]


@app.batch_task(max_wait_s=60)
async def attempts(ctx: BatchContext[None], numbers: list[int]) -> list[int]:
    return [one.attempt * number for one, number in zip(ctx.items, numbers, strict=True)]


def test_batches_of_one_run_at_once_and_are_waited_for() -> None:
    with Sandbox(app) as sandbox:
        jobs = sandbox.client.enqueue_many(double.job(n) for n in range(1, 4))
        with pytest.raises(ResultTimeout, match=r"drain\(\) or advance"):
            sandbox.client.wait_all(jobs)
        with pytest.raises(ResultTimeout, match=r"drain\(\) or advance"):
            sandbox.client.as_completed(jobs)
        sandbox.drain()
        assert sandbox.client.wait_all(jobs) == [2, 4, 6]
        assert {job.result() for job in sandbox.client.as_completed(jobs)} == {2, 4, 6}


def test_an_item_that_fails_is_retried_and_dead_in_the_end() -> None:
    with Sandbox(app) as sandbox:
        job = sandbox.client.enqueue(double.job(0).options(max_attempts=2))
        sandbox.drain()
        sandbox.advance(minutes=2)
        with pytest.raises(JobFailed, match="zero"):
            sandbox.client.wait_all([job])


async def test_the_same_with_a_loop() -> None:
    async with AsyncSandbox(app) as sandbox:
        jobs = await sandbox.async_client.enqueue_many([attempts.job(1), attempts.job(2)])
        with pytest.raises(ResultTimeout):
            await sandbox.async_client.wait_all(jobs)
        assert await sandbox.perform(attempts.job(5)) == 5
        sandbox.crash(attempts)
        await sandbox.drain()
        await sandbox.advance(minutes=2)
        assert sorted(await sandbox.async_client.wait_all(jobs)) == [2, 2]
