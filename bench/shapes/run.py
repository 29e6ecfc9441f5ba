"""The hot-path experiment: three table shapes, and the driver, on a PostgreSQL of your own.

    pip install "psycopg[binary]" asyncpg uvloop uuid-utils
    python bench/shapes/run.py clean  --dsn postgresql://postgres@127.0.0.1:5432/bench
    python bench/shapes/run.py held   --dsn … --jobs 500000 --cap-s 60
    python bench/shapes/run.py driver --dsn …      # psycopg and asyncpg on claim + settle, enqueue
    python bench/shapes/run.py values --dsn …      # ways to pass parameters and to fetch rows
    python bench/shapes/run.py plans  --dsn …      # stale statistics, many lanes
    python bench/shapes/run.py tweaks --dsn …      # fillfactor, lock strength, type of args …

It drops and creates the schema `goqueue` in that database: use one for tests only. Each shape is
a folder: `a` one table, `b` hot table and history, `c` narrow table and payload, with one
statement in each file. What came out: docs/why/hot_path_shape.md and docs/why/driver.md.
"""

import argparse
import asyncio
from collections.abc import Coroutine

import drivers
import plans
import shapes
import uvloop


def experiment(options: argparse.Namespace) -> Coroutine[object, object, None]:
    """The coroutine that the command line asks for."""
    dsn: str = options.dsn
    jobs: int = options.jobs
    match options.experiment:
        case "clean":
            return shapes.clean(dsn, options.shapes, jobs, options.runs, options.batches)
        case "held":
            return shapes.held(dsn, options.shapes, jobs, options.cap_s, options.batches)
        case "driver":
            return drivers.compare(dsn, jobs, options.runs, options.batches)
        case "values":
            return drivers.values(dsn)
        case "plans":
            return plans.stale(dsn)
        case _:
            return plans.tweaks(dsn, jobs, options.runs)


def main() -> None:
    """Parse the command line and run one experiment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("experiment", choices=["clean", "held", "driver", "values", "plans", "tweaks"])
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--shapes", default="abc", help="which shapes, e.g. ab")
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[500, 100])
    parser.add_argument("--cap-s", type=float, default=60.0, help="longest held run")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(experiment(options))


if __name__ == "__main__":
    main()
