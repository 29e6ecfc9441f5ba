"""Testing kit: run an application's jobs in a test, on a store in memory whose clock the test moves.

`Sandbox` for plain tests, `AsyncSandbox` for those with an event loop; `running_worker` for a real worker on a real
PostgreSQL. The pytest fixtures are in `goqueue.testing.plugin`, which pytest finds by itself.
"""

from goqueue.testing.async_sandbox import AsyncSandbox
from goqueue.testing.outcome import Drained, Ran
from goqueue.testing.sandbox import Sandbox
from goqueue.testing.worker import running_worker

__all__ = ["AsyncSandbox", "Drained", "Ran", "Sandbox", "running_worker"]
