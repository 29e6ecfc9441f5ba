"""Elections, records, workers, pauses, the schema, and the life of a store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from goqueue.model.admin import Duty
from goqueue.model.errors import GoQueueError

if TYPE_CHECKING:
    from goqueue.store.conformance.harness import Harness


class AdminCases:
    """Upkeep and administration."""

    # -- elections --------------------------------------------------------------------------------------

    async def test_one_leader_at_a_time(self, harness: Harness) -> None:
        term = await harness.store.elect("upkeep", "a", 30)
        assert term is not None
        assert (term.name, term.holder) == ("upkeep", "a")
        assert await harness.store.elect("upkeep", "b", 30) is None
        assert await harness.store.elect("upkeep", "b", 0) is None
        assert await harness.store.elect("upkeep", "c", 30) is None
        assert await harness.store.elect("other", "b", 30) is not None

    async def test_a_leader_stays_while_it_renews(self, harness: Harness) -> None:
        first = await harness.store.elect("upkeep", "a", 30)
        for _ in range(4):
            await harness.advance(20)
            assert await harness.store.elect("upkeep", "a", 30) == first
            assert await harness.store.elect("upkeep", "b", 30) is None

    async def test_a_leader_that_is_silent_is_replaced_under_a_higher_number(self, harness: Harness) -> None:
        first = await harness.store.elect("upkeep", "a", 30)
        await harness.advance(40)
        second = await harness.store.elect("upkeep", "b", 30)
        assert first is not None
        assert second is not None
        assert (second.holder, second.number > first.number) == ("b", True)
        assert await harness.store.elect("upkeep", "a", 30) is None

    async def test_resigning_makes_room_at_once(self, harness: Harness) -> None:
        first = await harness.store.elect("upkeep", "a", 30)
        await harness.store.elect("upkeep", "a", 0)
        second = await harness.store.elect("upkeep", "b", 30)
        assert first is not None
        assert second is not None
        assert second.number > first.number

    async def test_concurrent_candidates_elect_one(self, harness: Harness) -> None:
        terms = await asyncio.gather(*(harness.store.elect("upkeep", f"c{n}", 30) for n in range(8)))
        assert sum(term is not None for term in terms) == 1

    # -- records ----------------------------------------------------------------------------------------

    async def test_a_record_is_read_as_it_was_written(self, harness: Harness) -> None:
        assert await harness.store.read("r") is None
        value = bytes(range(256))
        written = await harness.store.write("r", value, 0)
        assert written is not None
        assert (written.name, written.value, written.version > 0) == ("r", value, True)
        assert await harness.store.read("r") == written

    async def test_a_record_is_written_only_over_the_version_that_was_read(self, harness: Harness) -> None:
        first = await harness.store.write("r", b"1", 0)
        assert first is not None
        assert await harness.store.write("r", b"x", 0) is None
        assert await harness.store.write("r", b"x", first.version + 1) is None
        second = await harness.store.write("r", b"2", first.version)
        assert second is not None
        assert second.version > first.version
        assert await harness.store.write("r", b"x", first.version) is None
        assert await harness.store.read("r") == second

    async def test_a_record_that_does_not_exist_has_no_version(self, harness: Harness) -> None:
        assert await harness.store.write("r", b"x", 1) is None
        assert await harness.store.read("r") is None

    async def test_a_record_is_absent_after_its_time(self, harness: Harness) -> None:
        first = await harness.store.write("r", b"1", 0, ttl_s=60)
        assert first is not None
        await harness.advance(50)
        assert await harness.store.read("r") == first
        await harness.advance(20)
        assert await harness.store.read("r") is None
        assert await harness.store.write("r", b"x", first.version) is None
        assert await harness.store.write("r", b"2", 0) is not None

    async def test_upkeep_removes_only_records_whose_time_is_over(self, harness: Harness) -> None:
        await harness.store.write("gone", b"1", 0, ttl_s=60)
        await harness.store.write("kept", b"2", 0)
        await harness.advance(100)
        await harness.sweep_all(Duty.HISTORY)
        assert await harness.store.read("gone") is None
        assert await harness.store.read("kept") is not None

    async def test_concurrent_writers_of_a_record_win_once(self, harness: Harness) -> None:
        written = await asyncio.gather(*(harness.store.write("r", b"%d" % n, 0) for n in range(8)))
        (winner,) = [record for record in written if record is not None]
        assert await harness.store.read("r") == winner

    # -- workers and queues -----------------------------------------------------------------------------

    async def test_workers_are_listed_newest_first_for_their_tenant(self, harness: Harness) -> None:
        first = await harness.worker()
        await harness.advance(10)
        second = await harness.worker()
        await harness.worker(tenant="acme")
        await harness.advance(10)
        await harness.beat(first)
        assert [record.id for record in await harness.store.workers("default")] == [second, first]

    async def test_paused_queues_are_named(self, harness: Harness) -> None:
        assert await harness.store.paused("default") == []
        for queue in ("b", "a", "a"):
            await harness.store.pause("default", queue, True)
        await harness.store.pause("acme", "c", True)
        assert await harness.store.paused("default") == ["a", "b"]
        for _ in range(2):
            await harness.store.pause("default", "a", False)
        assert await harness.store.paused("default") == ["b"]
        assert await harness.store.paused("acme") == ["c"]

    # -- life -------------------------------------------------------------------------------------------

    async def test_a_migrated_store_has_nothing_pending(self, harness: Harness) -> None:
        status = await harness.store.migrate()
        assert (status.current, status.pending) == (status.target, ())
        again = await harness.store.schema()
        assert (again.current, again.target, again.pending) == (status.current, status.target, ())

    async def test_opening_and_closing_twice_is_harmless(self, harness: Harness) -> None:
        await harness.store.open()
        await harness.store.open()
        await harness.store.ping()
        await harness.store.close()
        await harness.store.close()

    async def test_a_closed_store_refuses_to_work(self, harness: Harness) -> None:
        await harness.store.close()
        with pytest.raises(GoQueueError):
            await harness.store.ping()
        with pytest.raises(GoQueueError):
            await harness.enqueue()

    async def test_a_store_names_itself(self, harness: Harness) -> None:
        assert harness.store.capabilities.store
