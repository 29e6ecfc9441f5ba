"""Change jobs by id: cancel, retry, delete. Each job by itself; what was not written is looked at afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from goqueue.model.query import CancelJobs, Change, Changed, ChangeStatus, DeleteJobs, RetryJobs, Selection
from goqueue.model.state import FINAL_STORED, StoredState
from goqueue.store.postgres import pack, retention
from goqueue.store.postgres.errors import DriverError, is_locked
from goqueue.store.postgres.rows import earliest_expiry
from goqueue.store.postgres.statement import Plan, Statement
from goqueue.store.postgres.verbs.work import bounded_s
from goqueue.store.postgres.wakeups import cancels_topic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from goqueue.settings import StoreSettings

LOCKED_MAX: Final = 8
"""Keys that a retry waits for, one after the other, before the rest of its jobs answers busy."""


def change(
    selection: Selection, change: Change, settings: StoreSettings, now: datetime | None = None
) -> Plan[list[Changed]]:
    """Apply a change; see ``AsyncJobStore.change``."""
    done: dict[str, ChangeStatus] = {}
    ids, tenant, since = pack.uuids(selection.ids), selection.tenant, earliest_expiry(selection.ids)
    match change:
        case CancelJobs():
            rows = yield Statement("cancel", (now, tenant, ids, change.reason, *retention.parameters(settings)))
            done.update((id, ChangeStatus(status)) for id, status in rows)
        case RetryJobs():
            places = (bounded_s(change.delay_s), bounded_s(change.every_s))
            if change.args is None:
                rows = yield Statement("retry_live", (now, tenant, ids, *places))
                done.update((id, ChangeStatus(status)) for id, status in rows)
            rest = [id for id in selection.ids if id not in done]
            if rest:
                yield from _retry_final(selection, change, rest, done, now)
        case DeleteJobs():
            rows = yield Statement("delete", (tenant, ids, since))
            done.update((id, ChangeStatus(status)) for id, status in rows)
        case _:
            assert_never(change)
    rest = [id for id in selection.ids if id not in done]
    if rest:
        yield from _look(selection, rest, change, done, now)
    if ChangeStatus.REQUESTED in done.values():
        yield from _wake_for_cancels(tenant)
    return [Changed(id, done[id]) for id in selection.ids]


def at(change: Change, nth: int) -> Change:
    """Return what a change is for the job at this place (from 0) of its selection, taken alone."""
    if isinstance(change, RetryJobs):
        return msgspec.structs.replace(change, delay_s=bounded_s(change.delay_s) + bounded_s(change.every_s) * nth)
    return change


def _retry_final(
    selection: Selection, change: RetryJobs, ids: Sequence[str], done: dict[str, ChangeStatus], now: datetime | None
) -> Plan[None]:
    """Let final jobs wait again: all at once, or one by one when a key that somebody takes just now holds them up."""
    args = None if change.args is None else change.args.decode()
    places = (pack.uuids(selection.ids), bounded_s(change.delay_s), bounded_s(change.every_s))
    locked = 0
    turns = [ids]
    while turns and locked < LOCKED_MAX:
        turn = turns.pop()
        asked = (now, selection.tenant, pack.uuids(turn), earliest_expiry(turn), args, *places, change.version)
        try:
            rows = yield Statement("retry_history", asked)
        except DriverError as e:
            if not is_locked(e):
                raise
            if len(turn) > 1:
                turns = [[id] for id in reversed(turn)]
            else:
                locked += 1
        else:
            done.update((id, ChangeStatus(status)) for id, status in rows)


def _wake_for_cancels(tenant: str) -> Plan[None]:
    """Let workers beat at once, now that the requests are committed. A failure costs time only: they beat anyway."""
    try:
        yield Statement("notify", (cancels_topic(tenant),), indexed=False)
    except DriverError:
        return


def _look(
    selection: Selection, ids: Sequence[str], change: Change, done: dict[str, ChangeStatus], now: datetime | None
) -> Plan[None]:
    """Tell why jobs were not written."""
    rows = yield Statement("change_check", (selection.tenant, pack.uuids(ids), earliest_expiry(ids), now))
    # An id that is both live and history (it was used twice) is what lives now.
    in_order = sorted(rows, key=lambda row: row[1] not in FINAL_STORED)
    found = {id: (StoredState(state), requested, due_s) for id, state, requested, due_s in in_order}
    place = {id: n for n, id in reversed(list(enumerate(selection.ids)))}
    for id in ids:
        if id not in found:
            done[id] = ChangeStatus.NOT_FOUND
            continue
        state, requested, due_s = found[id]
        match change:
            case CancelJobs() if state is StoredState.CANCELLED or (state is StoredState.RUNNING and requested):
                done[id] = ChangeStatus.UNCHANGED
            case CancelJobs() if state in FINAL_STORED:
                done[id] = ChangeStatus.WRONG_STATE
            case RetryJobs() if change.args is not None and state not in FINAL_STORED:
                done[id] = ChangeStatus.WRONG_STATE
            case RetryJobs() if state is StoredState.WAITING and due_s <= _due_s(change, place[id]):
                done[id] = ChangeStatus.UNCHANGED
            case RetryJobs() | DeleteJobs() if state is StoredState.RUNNING:
                done[id] = ChangeStatus.WRONG_STATE
            case RetryJobs() if state is StoredState.BLOCKED:
                done[id] = ChangeStatus.WRONG_STATE
            case _:
                done[id] = ChangeStatus.BUSY


def _due_s(change: RetryJobs, place: int) -> float:
    return bounded_s(bounded_s(change.delay_s) + bounded_s(change.every_s) * place)
