"""Changing all jobs that options choose: show what it would be, ask, do it with signs of progress, sum up."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import typer

from goqueue.cli.options import Output
from goqueue.cli.output import Column, duration, show_rows
from goqueue.model.query import ChangeStatus
from goqueue.model.state import FINAL_STATES, JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from goqueue.cli.filters import Conditions
    from goqueue.client._sync.client import Client
    from goqueue.client.many import ChangedMany, RetriedMany

LOOKED_AT_MAX: Final = 10_000
"""Jobs that are looked at before asking."""
GROUPS_MAX: Final = 15
"""Lines in which they are shown."""
_FAILED: Final = (ChangeStatus.BUSY, ChangeStatus.KEY_HELD)
"""What was wanted and is not done; the others have become something else in the meantime."""
_NOT_FINAL: Final = tuple(state for state in JobState if state not in FINAL_STATES)


class Ask(NamedTuple):
    """How many, and whether to ask before."""

    limit: int | None
    dry_run: bool
    yes: bool


def retry_lot(
    client: Client, wanted: Conditions, ask: Ask, *, rate: float | None, args: Mapping[str, object] | None
) -> None:
    """Retry them, by default dead ones."""
    if not wanted.states:
        wanted = msgspec.structs.replace(wanted, states=(JobState.DEAD,))
    if not _agreed(client, wanted, ask, "retry", rate):
        return
    done = client.retry_many(
        **wanted.keywords(),
        reasons=wanted.reasons,
        errors=wanted.errors,
        limit=ask.limit,
        rate=rate,
        args=args,
        progress=lambda so_far: _progress("retried", so_far.retried),
    )
    _clear()
    if done.retried and done.spread_s >= 1:
        typer.echo(f"the last of them is due in {duration(done.spread_s)}", err=True)
    _sum_up("retried", done.retried, done)


def cancel_lot(client: Client, wanted: Conditions, ask: Ask, reason: str) -> None:
    """Cancel them, by default all that are not final."""
    if not wanted.states:
        wanted = msgspec.structs.replace(wanted, states=_NOT_FINAL)
    if not _agreed(client, wanted, ask, "cancel", None):
        return
    done = client.cancel_many(
        **wanted.chosen(),
        reason=reason,
        limit=ask.limit,
        progress=lambda so_far: _progress("cancelled", so_far.changed + so_far.requested),
    )
    _clear()
    if done.requested:
        typer.echo(f"{_number(done.requested)} that run were asked to stop", err=True)
    _sum_up("cancelled", done.changed, done)


def delete_lot(client: Client, wanted: Conditions, ask: Ask) -> None:
    """Delete them."""
    if not _agreed(client, wanted, ask, "delete", None):
        return
    done = client.delete_many(
        **wanted.keywords(),
        reasons=wanted.reasons,
        errors=wanted.errors,
        limit=ask.limit,
        progress=lambda so_far: _progress("deleted", so_far.changed),
    )
    _clear()
    _sum_up("deleted", done.changed, done)


def _agreed(client: Client, wanted: Conditions, ask: Ask, verb: str, rate: float | None) -> bool:
    """Show which jobs it would be, and ask. False: there is nothing to do."""
    if ask.yes and not ask.dry_run:
        return True
    if not ask.dry_run and not sys.stdin.isatty():
        raise typer.BadParameter("nobody is there to be asked: say --yes, or --dry-run to look", param_hint="--yes")
    count, more = _show(client, wanted, ask.limit)
    if not count:
        return False
    jobs = f"{'more than ' if more else ''}{_number(count)} job{'' if count == 1 else 's'}"
    pace = f", over {duration(count / rate)}{' or more' if more else ''}" if rate and count > 1 else ""
    if ask.dry_run:
        typer.echo(f"would {verb} {jobs}{pace}")
        return False
    typer.confirm(f"{verb} {jobs}{pace}?", abort=True, err=True)
    return True


def _show(client: Client, wanted: Conditions, limit: int | None) -> tuple[int, bool]:
    """Show the jobs in groups; return how many, and whether there are more than were looked at."""
    most = min(limit or LOOKED_AT_MAX, LOOKED_AT_MAX)
    found = client.iterate(**wanted.keywords(), reasons=wanted.reasons, errors=wanted.errors)
    groups = Counter(
        (
            record.queue,
            record.kind,
            str(record.state),
            record.reason or "",
            record.errors[-1].type if record.errors else "",
        )
        for job in islice(found, most)
        if (record := job.known) is not None
    )
    more = limit is None and next(found, None) is not None
    titles = ("queue", "kind", "state", "reason", "error")
    shown = [i for i, title in enumerate(titles) if title in ("queue", "kind", "state") or any(g[i] for g in groups)]
    columns = [Column("jobs", whole=True, right=True), *(Column(titles[i]) for i in shown)]
    rows = [(_number(count), *(group[i] for i in shown)) for group, count in groups.most_common(GROUPS_MAX)]
    show_rows(Output.TABLE, columns, rows, empty="no such jobs")
    if len(groups) > GROUPS_MAX:
        others = sum(groups.values()) - sum(count for _, count in groups.most_common(GROUPS_MAX))
        typer.echo(f"… and {_number(others)} in {len(groups) - GROUPS_MAX} smaller groups", err=True)
    return sum(groups.values()), more


def _sum_up(what: str, count: int, done: RetriedMany | ChangedMany) -> None:
    skipped = ", ".join(f"{_number(number)} {status}" for status, number in done.skipped.items())
    typer.echo(f"{what} {_number(count)} of {_number(done.found)}" + (f"; not: {skipped}" if skipped else ""))
    if done.more:
        typer.echo("there are more such jobs", err=True)
    if any(done.skipped.get(status) for status in _FAILED):
        raise typer.Exit(1)


def _progress(what: str, count: int) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{what} {_number(count)} … ", nl=False, err=True)


def _clear() -> None:
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)


def _number(count: int) -> str:
    return f"{count:,}"
