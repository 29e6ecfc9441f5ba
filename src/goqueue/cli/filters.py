"""The options by which commands choose jobs, and what they stand for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypedDict

import msgspec
import typer

from goqueue.cli import parsing
from goqueue.model.state import JobState

StateOption = Annotated[
    list[JobState] | None,
    typer.Option(
        "--state",
        "-s",
        metavar="STATE",
        help=f"Only in this state: {', '.join(JobState)}. Repeatable.",
        rich_help_panel="Which",
    ),
]
QueueOption = Annotated[
    list[str] | None,
    typer.Option("--queue", "-q", metavar="QUEUE", help="Only these queues. Repeatable.", rich_help_panel="Which"),
]
KindOption = Annotated[
    list[str] | None,
    typer.Option("--kind", "-k", metavar="KIND", help="Only of this kind. Repeatable.", rich_help_panel="Which"),
]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Only with this tag. Repeatable: all of them.", rich_help_panel="Which"),
]
ReasonOption = Annotated[
    list[str] | None,
    typer.Option(
        "--reason",
        metavar="REASON",
        help="Only what ended for this reason: attempts, crashed, expired … Repeatable.",
        rich_help_panel="Which",
    ),
]
ErrorOption = Annotated[
    list[str] | None,
    typer.Option(
        "--error",
        metavar="TYPE",
        help="Only with this type of last error: ConnectTimeout. Repeatable.",
        rich_help_panel="Which",
    ),
]
CreatedAfterOption = Annotated[
    datetime | None,
    typer.Option(
        parser=parsing.instant, metavar="WHEN", help="Created at or after: 2026-01-31T12:00:00Z, or 2h ago as 2h.",
        rich_help_panel="Which",
    ),
]  # fmt: skip
CreatedBeforeOption = Annotated[
    datetime | None,
    typer.Option(parser=parsing.instant, metavar="WHEN", help="Created before.", rich_help_panel="Which"),
]

FinishedAfterOption = Annotated[
    datetime | None,
    typer.Option(parser=parsing.instant, metavar="WHEN", help="Ended at or after: 2h, or an instant.",
    rich_help_panel="Which"),
]  # fmt: skip
FinishedBeforeOption = Annotated[
    datetime | None,
    typer.Option(parser=parsing.instant, metavar="WHEN", help="Ended before.", rich_help_panel="Which"),
]


class Chosen(TypedDict):
    """Conditions as a client's ``cancel_many`` takes them."""

    states: tuple[JobState, ...]
    queues: tuple[str, ...]
    kinds: tuple[str, ...]
    tags: tuple[str, ...]
    created_after: datetime | None
    created_before: datetime | None


class Found(Chosen):
    """Conditions as a client's ``find``, ``retry_many`` and ``delete_many`` take them."""

    finished_after: datetime | None
    finished_before: datetime | None


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs, as it was typed."""

    states: tuple[JobState, ...] = ()
    queues: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    finished_after: datetime | None = None
    finished_before: datetime | None = None

    @property
    def given(self) -> bool:
        """Whether anything was typed."""
        return self != Conditions()

    def keywords(self) -> Found:
        """Return the conditions that a store looks at; ``reasons`` and ``errors`` are looked at by the client."""
        return Found(**self.chosen(), finished_after=self.finished_after, finished_before=self.finished_before)

    def chosen(self) -> Chosen:
        """Return the conditions that jobs can meet which are not final."""
        return Chosen(
            states=self.states,
            queues=self.queues,
            kinds=self.kinds,
            tags=self.tags,
            created_after=self.created_after,
            created_before=self.created_before,
        )


def conditions(
    *,
    state: list[JobState] | None,
    queue: list[str] | None,
    kind: list[str] | None,
    tag: list[str] | None,
    created_after: datetime | None,
    created_before: datetime | None,
    reason: list[str] | None = None,
    error: list[str] | None = None,
    finished_after: datetime | None = None,
    finished_before: datetime | None = None,
) -> Conditions:
    """Return what the options of a command say."""
    return Conditions(
        states=tuple(state or ()),
        queues=tuple(queue or ()),
        kinds=tuple(kind or ()),
        tags=tuple(tag or ()),
        reasons=tuple(reason or ()),
        errors=tuple(error or ()),
        created_after=created_after,
        created_before=created_before,
        finished_after=finished_after,
        finished_before=finished_before,
    )
