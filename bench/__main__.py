"""`make bench`: measure, print a table, then one JSON line a figure. `make bench B="drain --jobs 10000"` does one.

Without a word after it all of the short ones are measured, in under 45 minutes on two cores; `long` does the others,
`gate` compares ratios with the recorded ones. The bench starts its own durable PostgreSQL and, for the ratios, installs
the peers under `.bench/` once (`--no-peers` does without). Compare ratios, not absolute figures: those belong to the
machine and the day. `pairs --runs 7 --against REVISION` sets this tree beside an earlier one.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from types import FrameType

from bench import database, entrants, gate, menu, report
from bench.database import Server
from bench.processes import Failed

FAILED = 1


def main() -> int:
    """Measure what the command line asks for; return the exit code."""
    signal.signal(signal.SIGTERM, _on_term)
    options = _parser().parse_args()
    names = {"all": tuple(menu.SHORT), "long": tuple(menu.LONG)}.get(options.bench, (options.bench,))
    try:
        with database.started(quiet_s=options.quiet_s) as server:
            if options.bench == "gate":
                return gate.check(menu.Kitchen(server, options), record=options.record)
            return _measure(server, names, options)
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return FAILED


def _measure(server: Server, names: tuple[str, ...], options: argparse.Namespace) -> int:
    kitchen = menu.Kitchen(server, options)
    print(f"bench: {', '.join(names)}: about {menu.minutes(names, options):.0f} minutes", flush=True)
    facts: dict[str, object] = {**report.machine_facts(), "database": server.facts()}
    code = 0
    for name in names:
        print(f"\nbench: {name} …", flush=True)
        began = time.monotonic()
        try:
            figures = menu.ALL[name](kitchen)
        except Failed as error:  # the others are worth having
            print(f"bench: {name}: {error}", file=sys.stderr, flush=True)
            code = FAILED
        else:
            report.show(figures, facts)
        print(f"bench: {name} took {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bench", nargs="?", choices=[*menu.ALL, "all", "long", "gate"], default="all")
    parser.add_argument("--runs", type=_positive, default=3, help="of each contender, alternating (%(default)s)")
    parser.add_argument("--jobs", type=_positive, help="of each run, instead of what that bench has")
    parser.add_argument("--processes", type=_positive, nargs="+", default=[1, 2], help="drain: worker processes")
    parser.add_argument("--concurrency", type=_positive, default=500, help="jobs that run at once (%(default)s)")
    parser.add_argument("--prefetch", type=_positive, default=500, help="jobs claimed and not started (%(default)s)")
    parser.add_argument("--batch", type=_positive, default=500, help="what PgQueuer and the limits take at a time")
    parser.add_argument("--per-s", type=float, default=1000.0, help="http: requests a second, open loop (%(default)s)")
    parser.add_argument("--seconds", type=float, help="http: of the open loop (10), half for a closed one; steady: 600")
    parser.add_argument("--against", default="HEAD~1", help="pairs: the earlier revision (%(default)s)")
    parser.add_argument("--peers", nargs="+", choices=list(entrants.ALL), help="only these, instead of all")
    parser.add_argument("--no-peers", action="store_true", help="measure GoQueue alone: no ratios, nothing installed")
    parser.add_argument("--quiet-s", type=float, default=20.0, help="wait for a quiet machine, each run (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the spacing of pickup's jobs (%(default)s)")
    parser.add_argument("--record", action="store_true", help="gate: write what is measured as what is expected")
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
