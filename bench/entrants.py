"""The peers and the limits that stand beside GoQueue, each set up as its own documentation has it for high rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import LiteralString

from bench import peers
from bench.contenders import Contender, side_command, stamped
from bench.peers import Missing, Place
from bench.stamps import Stamps

GRAPHILE_CONCURRENCY = 24
GRAPHILE_LOCAL_QUEUE = 500
OBAN_LIMIT = 200
AWA_BATCH = 512
PROCRASTINATE_CONCURRENCY = 20


@dataclass(frozen=True)
class Entrant:
    """A system with a side in `bench.sides`; see `bench.contenders.Contender`."""

    name: str
    module: str
    place: Place
    unfinished: LiteralString
    config: str
    batch: int
    """What its side's ``work`` is told to take at a time."""
    share: float = 1.0
    is_limit: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    quick: tuple[str, Mapping[str, str]] | None = None
    """Config and settings where a short wait is wanted, if they are others."""
    command: Callable[[str], list[str]] | None = None
    """Its worker, given the url, if that is none of its side's."""

    @property
    def for_latency(self) -> Entrant:
        """See `Contender`."""
        return replace(self, config=self.quick[0], settings=self.quick[1]) if self.quick else self

    def side(self, verb: str, url: str, *options: str) -> list[str]:
        """See `Contender`."""
        return side_command(str(self.place.python), self.module, verb, url, *options)

    def workers(self, url: str, processes: int) -> list[list[str]]:
        """As many commands as processes."""
        one = self.command(url) if self.command else self.side("work", url, "--count", str(self.batch))
        return [one for _ in range(processes)]

    def environment(self, url: str, *, processes: int = 1, stamps: Stamps | None = None) -> dict[str, str]:  # noqa: ARG002
        """See `Contender`."""
        return {**self.settings, **stamped(stamps)}


def pgqueuer(batch: int) -> Entrant:
    """PgQueuer, durable (its default), one connection a worker; it logs each job."""
    place = peers.place("pgqueuer")
    return Entrant(
        name="pgqueuer",
        module="pgqueuer_side",
        place=place,
        unfinished="SELECT count(*) FROM pgqueuer",
        config=f"PgQueuer {_of(place, 'pgqueuer', 'asyncpg')}, uvloop, batch_size {batch}, durable",
        batch=batch,
    )


def graphile(batch: int) -> Entrant:  # noqa: ARG001  its own settings
    """graphile-worker, which deletes what is done; jobs come by its SQL interface, through asyncpg."""
    place = peers.place("limits")
    folder = peers.node_folder()
    text = f"graphile-worker {peers.node_version('graphile-worker')}, concurrency {GRAPHILE_CONCURRENCY}"
    concurrency = {"CONCURRENCY": str(GRAPHILE_CONCURRENCY), "GRAPHILE_FOLDER": str(folder)}
    return Entrant(
        name="graphile-worker",
        module="graphile_side",
        place=place,
        unfinished="SELECT count(*) FROM graphile_worker._private_jobs",
        config=f"{text}, localQueue {GRAPHILE_LOCAL_QUEUE}, batch delays 0, no history; SQL interface through asyncpg",
        batch=GRAPHILE_LOCAL_QUEUE,
        settings={**concurrency, "LOCAL_QUEUE": str(GRAPHILE_LOCAL_QUEUE)},
        quick=(f"{text}, no localQueue, no history; SQL interface through asyncpg", concurrency),
        command=lambda url: ["node", str(folder / "graphile.mjs"), "work", url],
    )


def oban(batch: int) -> Entrant:  # noqa: ARG001  its own settings
    """Oban for Python, the open engine."""
    place = peers.place("oban", python_min=(3, 12))
    return Entrant(
        name="oban",
        module="oban_side",
        place=place,
        unfinished="SELECT count(*) FROM oban_jobs WHERE state IN ('available', 'executing')",
        config=f"Oban for Python {_of(place, 'oban', 'psycopg')}, uvloop, limit {OBAN_LIMIT}, pool of 2 to 10",
        batch=OBAN_LIMIT,
        share=0.16,
    )


def awa(batch: int) -> Entrant:  # noqa: ARG001  its own settings
    """Awa: a Rust core with Python handlers; queue storage, its default."""
    place = peers.place("awa")
    return Entrant(
        name="awa",
        module="awa_side",
        place=place,
        unfinished="SELECT count(*) FROM awa.jobs WHERE state IN ('available', 'running')",
        config=f"awa-pg {place.versions['awa-pg']}, {AWA_BATCH} workers, claim and completion batches of {AWA_BATCH}",
        batch=AWA_BATCH,
        share=0.5,
        settings={"AWA_COMPLETION_BATCH_SIZE": str(AWA_BATCH)},
    )


def procrastinate(batch: int) -> Entrant:  # noqa: ARG001  its own settings
    """Procrastinate; each job of its worker is a claim and an update of their own."""
    place = peers.place("procrastinate")
    many = PROCRASTINATE_CONCURRENCY
    return Entrant(
        name="procrastinate",
        module="procrastinate_side",
        place=place,
        unfinished="SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
        config=f"Procrastinate {_of(place, 'procrastinate', 'psycopg')}, concurrency {many}, pool of {many + 4}",
        batch=many,
        share=0.04,
    )


def bare_loop(batch: int) -> Entrant:
    """No system: the least that claims, decodes, calls a handler and settles, done rows kept by an update."""
    place = peers.place("limits")
    return Entrant(
        name="bare loop",
        module="bare_side",
        place=place,
        unfinished="SELECT count(*) FROM bare_job WHERE state < 2",
        config=f"bare loop, asyncpg {_of(place, 'asyncpg')}, settle and claim of {batch} in one, a task a job",
        batch=batch,
        is_limit=True,
    )


def raw_sql(batch: int) -> Entrant:
    """No system: the bare loop's statements without arguments or handlers; COPY for many."""
    place = peers.place("limits")
    return Entrant(
        name="raw SQL",
        module="raw_side",
        place=place,
        unfinished="SELECT count(*) FROM bare_job WHERE state < 2",
        config=f"raw SQL, asyncpg {_of(place, 'asyncpg')}, settle and claim of {batch} in one, no handlers",
        batch=batch,
        is_limit=True,
    )


ALL: Mapping[str, Callable[[int], Entrant]] = {
    "pgqueuer": pgqueuer,
    "graphile-worker": graphile,
    "oban": oban,
    "awa": awa,
    "procrastinate": procrastinate,
    "bare-loop": bare_loop,
    "raw-sql": raw_sql,
}


@dataclass(frozen=True)
class Field:
    """All that run, GoQueue first, and why others do not."""

    contenders: Sequence[Contender]
    absent: Mapping[str, str]

    def only(self, *names: str) -> Field:
        """GoQueue and those named, as far as they are there."""
        kept = [self.contenders[0], *(one for one in self.contenders[1:] if one.name in names)]
        return Field(kept, {name: why for name, why in self.absent.items() if name in names})


def field_of(goqueue: Contender, names: Sequence[str], batch: int) -> Field:
    """GoQueue and the named entrants, each in an environment that is made if it is not there."""
    found: list[Contender] = [goqueue]
    absent: dict[str, str] = {}
    for name in names:
        try:
            found.append(ALL[name](batch))
        except Missing as error:
            absent[name] = str(error)
    return Field(found, absent)


def _of(place: Place, *packages: str) -> str:
    first, *others = packages
    return ", ".join([place.versions[first], *(f"{name} {place.versions[name]}" for name in others)])
