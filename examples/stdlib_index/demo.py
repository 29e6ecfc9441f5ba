"""`make demo`: index this machine's own Python standard library through a real server, worker and PostgreSQL.

Starts `goqueue dev` in this folder, submits one job for each module file over HTTP, waits until all are final, sends 50
spaced probes, counts everything again itself, and compares. Exit code 0 only when all of that agrees.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import sysconfig
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Final, TypeAlias

from counting import Counts, count
from demo_progress import Progress
from demo_report import Summary, show
from demo_server import DemoFailed, Jobs, Server

HERE: Final = Path(__file__).resolve().parent
BROKEN: Final = HERE / "broken.py.txt"
BATCH: Final = 250
PROBES: Final = 50
PROBE_GAP_S: Final = (0.05, 0.1)
BURST_TIMEOUT_S: Final = 300.0
PROBE_TIMEOUT_S: Final = 30.0

Truth: TypeAlias = "dict[str, Counts | str]"
"""By path: the counts, or the name of the error that parsing raises."""


def module_files() -> list[Path]:
    """Return every module file of the standard library of this Python, without what was installed beside it."""
    root = Path(sysconfig.get_path("stdlib"))
    others = {"site-packages", "dist-packages"}
    return sorted(path for path in root.rglob("*.py") if path.is_file() and not others & set(path.parts))


def submit(jobs: Jobs, files: list[Path], tag: str) -> list[str]:
    """Submit a job for each file, in batches; return their ids in order."""
    ids: list[str] = []
    for start in range(0, len(files), BATCH):
        ids += jobs.submit(
            [
                {
                    "kind": "index_file",
                    "args": {"path": str(path)},
                    "max_attempts": 3,
                    "timeout_s": 30,
                    "tags": [tag],
                }
                for path in files[start : start + BATCH]
            ]
        )
    return ids


def wait_until_final(jobs: Jobs, tag: str, total: int) -> None:
    """Show progress until no job of this run is left that is not final."""
    deadline = time.monotonic() + BURST_TIMEOUT_S
    with Progress(total, "indexing") as progress:
        while (left := jobs.unfinished(tag)) > 0:
            progress.at(total - left)
            if time.monotonic() > deadline:
                raise DemoFailed(f"{left} of {total} jobs are not final after {BURST_TIMEOUT_S:.0f} s")
            time.sleep(0.25)
        progress.at(total)


def send_probes(jobs: Jobs, tag: str) -> list[dict[str, object]]:
    """Enqueue jobs that do nothing, one by one, on a queue that is idle; return their records."""
    for _ in range(PROBES):
        jobs.submit_one({"kind": "probe", "max_attempts": 1, "tags": [tag]})
        time.sleep(random.uniform(*PROBE_GAP_S))
    deadline = time.monotonic() + PROBE_TIMEOUT_S
    while (left := jobs.unfinished(tag)) > 0:
        if time.monotonic() > deadline:
            raise DemoFailed(f"{left} of {PROBES} probes are not final after {PROBE_TIMEOUT_S:.0f} s")
        time.sleep(0.1)
    return jobs.all(tag)


def count_directly(files: list[Path]) -> Truth:
    """Count all files here, without a queue."""
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        return dict(zip(map(str, files), pool.map(_count_or_error, files, chunksize=50), strict=True))


def _count_or_error(path: Path) -> Counts | str:
    try:
        return count(path)
    except Exception as error:
        return type(error).__name__


def compare(records: list[dict[str, object]], ids: list[str], truth: Truth) -> list[str]:
    """Return what does not agree: a line for each job."""
    wrong: list[str] = []
    by_id = {record["id"]: record for record in records}
    if len(by_id) != len(records):
        wrong.append("a job was listed twice")
    for id, (path, expected) in zip(ids, truth.items(), strict=True):
        record = by_id.get(id)
        if record is None:
            wrong.append(f"{path}: its job is not there")
        elif isinstance(expected, Counts):
            found = record["result"]
            as_dict = {"functions": expected.functions, "classes": expected.classes, "lines": expected.lines}
            if record["state"] != "completed" or found != as_dict:
                wrong.append(f"{path}: {record['state']} with {found}, counted directly {as_dict}")
        elif record["state"] != "dead" or not record["errors"]:
            wrong.append(f"{path}: {record['state']}, but counting directly raises {expected}")
        elif record["errors"][-1]["type"] != expected:  # type: ignore[index]  # JSON of our own server
            wrong.append(f"{path}: failed with another error than {expected}")
    return wrong


def run(server: Server) -> int:
    """Do it all on a server that is ready; return the exit code."""
    tag = f"demo-{uuid.uuid4().hex[:12]}"
    files = [*module_files(), BROKEN]
    with Jobs(server.url) as jobs:
        print(f"{len(files) - 1:,} module files of Python {sys.version.split()[0]}, and one broken file", flush=True)
        warm_up(jobs, f"{tag}-warm")
        started = time.monotonic()
        ids = submit(jobs, files, tag)
        submitted_s = time.monotonic() - started
        wait_until_final(jobs, tag, len(files))
        records = jobs.all(tag)
        print(f"probing: {PROBES} single jobs, spaced", flush=True)
        probes = send_probes(jobs, f"{tag}-probe")
        print("counting directly, to compare", flush=True)
        truth = count_directly(files)
    wrong = compare(records, ids, truth)
    if len(probes) != PROBES or any(probe["state"] != "completed" for probe in probes):
        wrong.append(f"{sum(probe['state'] == 'completed' for probe in probes)} of {PROBES} probes completed")
    show(Summary(records=records, probes=probes, submitted_s=submitted_s, wrong=wrong))
    return 1 if wrong else 0


def warm_up(jobs: Jobs, tag: str) -> None:
    """Wait until a worker runs jobs: the server is ready before it."""
    jobs.submit_one({"kind": "probe", "max_attempts": 1, "tags": [tag]})
    deadline = time.monotonic() + PROBE_TIMEOUT_S
    while jobs.unfinished(tag):
        if time.monotonic() > deadline:
            raise DemoFailed("no worker runs jobs")
        time.sleep(0.05)


def main() -> int:
    """Start the server, run, and stop it (or leave it up: KEEP=1)."""
    keep = os.environ.pop("KEEP", "") not in ("", "0")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    server = Server(HERE)
    try:
        server.start()
        code = run(server)
    except DemoFailed as error:
        print(f"\nThe demo failed: {error}\n{server.log_tail()}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # from here on it only ends
        if not (keep and sys.exc_info()[0] is None and server.is_up()):
            server.stop()
    if keep and server.is_up():
        print(f"\nThe server stays up: {server.url} (log: {server.log})")
        print(f"Look around:  export GOQUEUE_URL=$({_command()} db url --data-dir {server.data}/postgres)")
        print(f"Stop it:      kill {server.pid}; its data stays in {server.data}")
    return code


def _command() -> str:
    return str(Path(sys.executable).with_name("goqueue"))


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
