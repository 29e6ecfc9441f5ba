"""Changing many jobs by filter: which are chosen, when each is due, what became of them. Rules without I/O.

A lot is read page by page from the newest id to the oldest, and changed in selections. A job that was chosen is never
met again, however soon it is final once more: the walk goes one way. What is not reached is still as it was, so calling
again goes on where the last call ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from goqueue.model import limits
from goqueue.model.errors import InvalidArguments, InvalidQuery
from goqueue.model.query import ChangeStatus, RetryJobs
from goqueue.tasks import encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from goqueue.model.job import JobRecord
    from goqueue.model.query import Change, Changed, Page, Query
    from goqueue.tasks.app import AnyTask

SELECTION_MAX: Final = 500
"""Jobs changed in one statement."""
READ_MAX: Final = 100
"""Records read at once: with the largest arguments these are 100 MiB, 500 would be 500."""
RATE_MIN, RATE_MAX = 1 / 3600, 100_000.0
"""Jobs in a second."""
_DONE: Final = (ChangeStatus.CHANGED, ChangeStatus.REQUESTED)


class ChangedMany(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the jobs that a filter chose."""

    found: int = 0
    """Jobs for which the conditions held when they were looked at. With ``dry_run`` the others are 0."""
    changed: int = 0
    requested: int = 0
    """Running jobs that were asked to stop."""
    skipped: dict[ChangeStatus, int] = {}
    """How many could not be changed, or needed it not, by why: what they had become in the meantime, mostly."""
    more: bool = False
    """It ended at a limit, and there are more such jobs."""


class RetriedMany(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the jobs that a filter chose for another try."""

    found: int = 0
    """Jobs for which the conditions held when they were looked at. With ``dry_run`` the others are 0."""
    retried: int = 0
    skipped: dict[ChangeStatus, int] = {}
    """How many could not be retried by why, such as ``key_held``: another job has its unique key now."""
    more: bool = False
    """It ended at a limit, and there are more such jobs."""
    spread_s: float = 0.0
    """How long from now until the last of them is due; 0 without a rate."""


class Pacer:
    """Says when the jobs of each selection are due, so that never more than ``rate`` of them are in a second.

    Durations only, of the caller's monotonic clock: however long the reading takes, the lot comes back at its rate.
    """

    def __init__(self, rate: float | None) -> None:
        self.every_s = 0.0 if rate is None else 1 / rate
        self._free_at: float | None = None

    def delay_s(self, now: float) -> float:
        """Return how long the next job has to wait."""
        return max(0.0, self._free_at - now) if self._free_at is not None else 0.0

    def room(self, now: float) -> int:
        """Return how many more jobs can be planned: nothing is delayed for longer than `limits.DELAY_S_MAX`."""
        if not self.every_s:
            return SELECTION_MAX
        return max(0, int((limits.DELAY_S_MAX - self.delay_s(now)) / self.every_s))

    def planned(self, delay_s: float, count: int, answered_at: float) -> None:
        """Note that ``count`` jobs were given turns. The store had read its clock when it answered: count from then."""
        self._free_at = answered_at + delay_s + count * self.every_s


class Lot:
    """The jobs of one change by filter: what to read, what to change, and the tally. Holds one selection of ids."""

    def __init__(
        self,
        query: Query,
        make: Callable[[float, float], Change],
        *,
        reasons: Sequence[str] = (),
        errors: Sequence[str] = (),
        limit: int | None = None,
        rate: float | None = None,
        dry_run: bool = False,
    ) -> None:
        _check(reasons, errors, limit, rate)
        self._query: Query | None = msgspec.structs.replace(query, page_size=READ_MAX)
        self._make = make
        self._pacer = Pacer(rate)
        self._reasons, self._errors = frozenset(reasons), tuple(errors)
        self._limit = limit
        self._dry_run = dry_run
        self._chosen: list[str] = []
        self._tally: Counter[ChangeStatus] = Counter()
        self._found = 0
        self._more = False

    @property
    def query(self) -> Query | None:
        """What to read next; None when all has been read."""
        return self._query

    def read(self, page: Page) -> None:
        """Choose from what was read."""
        if self._query is None:
            return
        for record in page.jobs:
            if not matches(record, self._reasons, self._errors):
                continue
            if self._found == self._limit:
                self._end(more=True)
                return
            self._found += 1
            if not self._dry_run:
                self._chosen.append(record.id)
        if page.next_before_id is None:
            self._end(more=False)
        else:
            self._query = msgspec.structs.replace(self._query, before_id=page.next_before_id)

    def selection(self, now: float) -> tuple[str, ...]:
        """Take the ids that are to be changed now: when enough of them have gathered, or all has been read."""
        if len(self._chosen) < SELECTION_MAX and self._query is not None:
            return ()
        size = min(SELECTION_MAX, self._pacer.room(now))
        taken, self._chosen = tuple(self._chosen[:size]), self._chosen[size:]
        if not taken and self._chosen:
            self._chosen = []
            self._end(more=True)
        return taken

    def change(self, now: float) -> Change:
        """Return the change for a selection that is sent now."""
        return self._make(self._pacer.delay_s(now), self._pacer.every_s)

    def answered(self, change: Change, answers: Sequence[Changed], now: float) -> tuple[str, ...]:
        """Note what became of a selection; return the ids whose rows were locked."""
        if isinstance(change, RetryJobs):
            self._pacer.planned(change.delay_s, len(answers), now)
        self._tally.update(answer.status for answer in answers if answer.status is not ChangeStatus.BUSY)
        return tuple(answer.id for answer in answers if answer.status is ChangeStatus.BUSY)

    def give_up(self, ids: Sequence[str]) -> None:
        """Note that these rows stayed locked."""
        self._tally[ChangeStatus.BUSY] += len(ids)

    def retried(self, now: float) -> RetriedMany:
        """Return the tally of a retry."""
        return RetriedMany(
            found=self._found,
            retried=self._tally[ChangeStatus.CHANGED],
            skipped=self._skipped(),
            more=self._more,
            spread_s=max(0.0, self._pacer.delay_s(now) - self._pacer.every_s),
        )

    def changed(self) -> ChangedMany:
        """Return the tally of another change."""
        return ChangedMany(
            found=self._found,
            changed=self._tally[ChangeStatus.CHANGED],
            requested=self._tally[ChangeStatus.REQUESTED],
            skipped=self._skipped(),
            more=self._more,
        )

    def so_far(self) -> str:
        """Say how far it has come, for who gets an error instead of the tally."""
        done = sum(self._tally[status] for status in _DONE)
        return f"At least {done} jobs were changed before that; the same call again takes those that are left."

    def _skipped(self) -> dict[ChangeStatus, int]:
        return {status: count for status, count in sorted(self._tally.items()) if status not in _DONE and count}

    def _end(self, *, more: bool) -> None:
        self._query = None
        self._more = self._more or more


def matches(record: JobRecord, reasons: frozenset[str], errors: Sequence[str]) -> bool:
    """Tell whether a job ended for one of these reasons, its last attempt with one of these types of error.

    A type is named with or without its module: ``ConnectTimeout`` or ``httpx.ConnectTimeout``. Empty does not restrict.
    """
    if reasons and record.reason not in reasons:
        return False
    if not errors:
        return True
    last = record.errors[-1].type if record.errors else ""
    return any(last == name or last.endswith(f".{name}") for name in errors)


def check_names(**lists: Sequence[str]) -> None:
    """Refuse a text where a list of texts is wanted, and lists that are too long. Raises `InvalidQuery`."""
    for name, values in lists.items():
        if isinstance(values, str):
            raise InvalidQuery(f"takes a list, for example [{values!r}]", f"/{name}")
        if len(values) > limits.BATCH_MAX:
            raise InvalidQuery(f"takes at most {limits.BATCH_MAX} values", f"/{name}")


def _check(reasons: Sequence[str], errors: Sequence[str], limit: int | None, rate: float | None) -> None:
    check_names(reasons=reasons, errors=errors)
    if limit is not None and (type(limit) is not int or limit < 0):
        raise InvalidQuery("must be a whole number from 0, or None for no limit", "/limit")
    is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if rate is not None and not (is_number and RATE_MIN <= rate <= RATE_MAX):
        raise InvalidQuery(
            f"must be from one in an hour to {RATE_MAX:g} jobs in a second, or None for at once", "/rate"
        )


def check_args_kinds(args: Mapping[str, object] | None, kinds: Sequence[str]) -> None:
    """Refuse new arguments for jobs of several kinds. Raises `InvalidQuery`."""
    if args is not None and (isinstance(kinds, str) or len(kinds) != 1):
        raise InvalidQuery("must name one kind: the new arguments are for all jobs that are found", "/kinds")


def edited_args(args: Mapping[str, object], task: AnyTask | None) -> bytes:
    """Encode the new arguments of a job, checked against its task's signature where that is known.

    Raises `InvalidArguments`, which names the argument.
    """
    given: object = args  # whatever the caller's type checker thinks of it
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InvalidArguments("must be a dict: each argument by its name", "/args")
    if task is not None:
        return task.signature.encode((), dict(args))
    return encoding.encode(dict(args), "/args", limits.ARGS_BYTES_MAX)


def version_of(task: AnyTask | None) -> int | None:
    """Return the version of new arguments, where that is known."""
    return None if task is None else task.version
