"""`make bench`: measure, print a table, then one JSON line a figure. `make bench B="drain --jobs 10000"` does one.

Without a word after it everything is measured, which takes about a quarter of an hour on two cores. The bench starts
its own durable PostgreSQL and, for the ratios, installs the peers under `.bench/` once (`--no-peers` does without).
Compare ratios, not absolute figures: those belong to the machine and the day. `pairs --runs 7 --against REVISION`
sets this tree beside an earlier one.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from bench import database, drain, held, http, pairs, peers, pickup, report
from bench.contenders import GoQueueContender, PgQueuerContender, find_goqueue
from bench.database import Server
from bench.processes import Failed
from bench.report import Figure

ALL = ("drain", "pickup", "http", "held")
FAILED = 1


def main() -> int:
    """Measure what the command line asks for; return the exit code."""
    signal.signal(signal.SIGTERM, _on_term)
    options = _parser().parse_args()
    names = ALL if options.bench == "all" else (options.bench,)
    try:
        with database.started(quiet_s=options.quiet_s) as server:
            return _measure(server, names, options)
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return FAILED


def _measure(server: Server, names: tuple[str, ...], options: argparse.Namespace) -> int:
    python = None if options.no_peers or names == ("pairs",) else peers.python()
    facts: dict[str, object] = {**report.machine_facts(), "database": server.facts()}
    if python is not None:
        facts["peers"] = peers.versions(python)
    code = 0
    for name in names:
        print(f"\nbench: {name} …", flush=True)
        try:
            figures = _benches(server, python, options)[name]()
        except Failed as error:  # the others are worth having
            print(f"bench: {name}: {error}", file=sys.stderr, flush=True)
            code = FAILED
        else:
            report.show(figures, facts)
    return code


def _benches(server: Server, python: Path | None, options: argparse.Namespace) -> dict[str, Callable[[], list[Figure]]]:
    command = find_goqueue(options.goqueue)
    goqueue = GoQueueContender(command, options.concurrency, options.prefetch, dict(options.set))
    peer = PgQueuerContender(python, options.batch) if python is not None else None
    runs: int = options.runs
    jobs: int | None = options.jobs
    return {
        "drain": lambda: drain.measure(
            server, goqueue, peer, drain.Options(jobs or 50_000, runs, tuple(options.processes))
        ),
        "pickup": lambda: pickup.measure(server, goqueue, peer, pickup.Options(jobs or 300, runs, options.seed)),
        "http": lambda: http.measure(
            server,
            goqueue,
            python,
            http.Options(runs, options.per_s, options.seconds, options.seconds / 2, min(2.0, options.seconds / 4)),
        ),
        "held": lambda: held.measure(
            server, goqueue, peer, held.Options(jobs or 500_000, runs, with_peer=options.held_peer)
        ),
        "pairs": lambda: pairs.measure(
            server, goqueue, pairs.Options(options.against, runs, jobs or 50_000, min(jobs or 300, 300), options.seed)
        ),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bench", nargs="?", choices=[*ALL, "pairs", "all"], default="all")
    parser.add_argument("--runs", type=_positive, default=3, help="of each contender, alternating (%(default)s)")
    parser.add_argument("--jobs", type=_positive, help="of each run (drain 50,000, pickup 300, held 500,000)")
    parser.add_argument("--processes", type=_positive, nargs="+", default=[1], help="drain: worker processes, e.g. 1 2")
    parser.add_argument("--concurrency", type=_positive, default=500, help="jobs that run at once (%(default)s)")
    parser.add_argument("--prefetch", type=_positive, default=500, help="jobs claimed and not started (%(default)s)")
    parser.add_argument("--batch", type=_positive, default=500, help="PgQueuer's batch_size (%(default)s)")
    parser.add_argument("--per-s", type=float, default=1000.0, help="http: requests a second, open loop (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="http: of the open loop; half for the closed one")
    parser.add_argument("--against", default="HEAD~1", help="pairs: the earlier revision (%(default)s)")
    parser.add_argument("--held-peer", action="store_true", help="held: measure PgQueuer too (takes minutes more)")
    parser.add_argument("--no-peers", action="store_true", help="measure GoQueue alone: no ratios, nothing installed")
    parser.add_argument("--quiet-s", type=float, default=20.0, help="wait for a quiet machine, each run (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the spacing of pickup's jobs (%(default)s)")
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting, e.g. worker.poll_s=2",
    )
    parser.add_argument("--goqueue", metavar="PATH", help="the goqueue command to measure (the one of this Python)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError("write NAME=VALUE")
    return "GOQUEUE_" + name.replace(".", "_").upper(), value


def _on_term(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    sys.exit(128 + number)  # so that every process of ours is stopped on the way out


if __name__ == "__main__":
    sys.exit(main())
