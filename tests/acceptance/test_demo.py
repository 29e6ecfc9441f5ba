"""`make demo`: the real thing once, its ends, and that it can fail."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.database import bin_dir
from tests.support.processes import Bench, bench, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "stdlib_index"

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(bin_dir() is not None, reason="the demo always brings the embedded PostgreSQL"),
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as one:
        yield one


def start(place: Bench, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLE / "demo.py")],
        env={**place.env, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_it_indexes_the_standard_library_and_stays_up(place: Bench) -> None:
    demo = start(place, KEEP="1")
    output, _ = demo.communicate(timeout=110)
    assert demo.returncode == 0, output
    assert "all counts agree with a direct count" in output
    files = int(re.search(r"([\d,]+) module files", output)[1].replace(",", ""))  # type: ignore[index]  # it is there
    assert files > 500
    assert re.search(r"broken\.py\.txt +dead +3/3 +SyntaxError", output), output
    for figure in ("throughput", "queue wait in the burst", "pick-up of a spaced probe", "end to end"):
        assert re.search(rf"{figure}.*\d", output), output
    data = re.search(r"--data-dir (\S+)\)", output)
    stop = re.search(r"kill (\d+);", output)
    assert data is not None
    assert stop is not None
    url = place.run("db", "url", "--data-dir", data[1]).stdout.strip()
    (dead,) = [
        record
        for record in json.loads(place.run("jobs", "list", "-s", "dead", "-o", "json", "--url", url).stdout)
        if record["args"]["path"].endswith("broken.py.txt")
    ]
    assert [error["attempt"] for error in dead["errors"]] == [1, 2, 3]
    os.kill(int(stop[1]), signal.SIGTERM)
    assert until(lambda: not place.left())
    log = re.search(r"\(log: (\S+)\)", output)
    assert log is not None
    subprocess.run(["rm", "-rf", str(Path(data[1]).parent), log[1]], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_stopped_at_any_time(place: Bench, number: int) -> None:
    demo = start(place)
    assert demo.stdout is not None
    with demo:
        for line in demo.stdout:
            if "module files" in line:
                break
        demo.send_signal(number)
        rest = demo.stdout.read()
        code = demo.wait(60)
    assert code == 128 + number, rest
    assert "Traceback" not in rest
    assert until(lambda: not place.left())


def test_a_count_that_does_not_agree_is_found() -> None:
    code = """
import json
from counting import Counts
from demo import compare
good = {"id": "1", "state": "completed", "result": {"functions": 1, "classes": 2, "lines": 3}, "errors": []}
bad = {"id": "2", "state": "dead", "result": None, "errors": [{"type": "SyntaxError", "message": ""}]}
truth = {"a.py": Counts(1, 2, 3), "b.py": "SyntaxError"}
ids = ["1", "2"]
def n(records): return len(compare(records, ids, truth))
print(json.dumps([
    n([good, bad]),
    n([{**good, "result": {"functions": 1, "classes": 2, "lines": 4}}, bad]),
    n([{**good, "state": "running", "result": None}, bad]),
    n([good]),
    n([good, {**bad, "state": "completed", "result": good["result"]}]),
    n([good, {**bad, "errors": [{"type": "ValueError", "message": ""}]}]),
    n([good, {**bad, "errors": []}]),
    n([good, bad, bad]),
]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLE, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[0, 1, 1, 1, 1, 1, 1, 1]", done.stderr


def test_the_mark_reaches_what_the_demo_starts(place: Bench) -> None:
    """Without it the tests above would find nothing left behind, whatever there is."""
    demo = start(place)
    assert demo.stdout is not None
    with demo:
        for line in demo.stdout:
            if "module files" in line:
                break

        def names() -> str:
            return " ".join(" ".join(process.cmdline()) for process in place.left())

        wanted = ("goqueue dev", "goqueue.engine.child", "guard.py", "postgres")
        assert until(lambda: all(part in names() for part in wanted)), names()
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
        demo.wait(60)
