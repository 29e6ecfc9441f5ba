"""The contract of a store, as tests: behaviour, not names. Shipped, so that a store made elsewhere can be held to it.

A store's author supplies one fixture, and inherits all cases; `pytest-asyncio` runs them:

    import pytest
    from goqueue.store.conformance import SETTINGS, Harness, StoreCases

    class MyHarness(Harness):
        async def advance(self, seconds: float) -> None: ...
        async def forget_worker(self, worker_id: str) -> None: ...

    @pytest.fixture
    async def harness() -> AsyncIterator[Harness]:
        store = MyStore(settings=SETTINGS)
        await store.open()
        yield MyHarness(store)
        await store.close()

    class TestMyStore(StoreCases):
        pass

Nothing here sleeps to let time pass: the harness moves the store's clock. Every case begins with a fresh store.
"""

import pytest

CASES = (
    "admin",
    "changes",
    "claiming",
    "crashing",
    "diagnosing",
    "enqueueing",
    "expiring",
    "extremes",
    "key_ends",
    "keys",
    "laws",
    "leases",
    "noting",
    "queries",
    "retention",
    "retrying",
    "settling",
    "starting",
    "sweeping",
    "terms",
)
# Only test modules show the values in a failed assertion by themselves.
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in ("harness", *CASES)))

from goqueue.store.conformance.harness import SETTINGS, Harness  # noqa: E402  the rewriting has to come first
from goqueue.store.conformance.suite import StoreCases  # noqa: E402

__all__ = ["SETTINGS", "Harness", "StoreCases"]
