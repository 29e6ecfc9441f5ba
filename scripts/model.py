"""`make model`: check the formal model of a lease (formal/lease.pml) with Spin, and that each broken variant fails.

The state space is searched whole, first for assertions and for states in which something is stuck, then for runs in
which the job never ends although every process that can go on does. formal/README.md says what the model is of.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "formal" / "lease.pml"
DEADLINE_S = 900
NEEDS = {"spin": "Spin", "cc": "a C compiler"}
HINT = "Debian/Ubuntu: apt-get install spin gcc. macOS: brew install spin."


@dataclass(frozen=True)
class Search:
    """One search of the state space; `must_fail` for a variant that lacks a guard."""

    name: str
    defines: tuple[str, ...] = ()
    liveness: bool = False
    must_fail: bool = False


SEARCHES = (
    Search("every assertion holds, nothing is stuck"),
    Search("the job is final in the end", ("EXPIRE_MAX=1",), liveness=True),
    *(
        Search(name, (f"BROKEN={number}", f"EXPIRE_MAX={expiries}"), must_fail=True)
        for number, expiries, name in (
            (1, 1, "a settle that does not look at the fence"),
            (2, 1, "a claim that does not raise the fence"),
            (3, 1, "a sweep that does not look again"),
            (4, 1, "a sweep that does not raise the fence"),
            (5, 0, "a claim without a worker row, and no full sweep"),
            (6, 1, "a manual retry that starts the fence anew"),
            (7, 1, "a repeated settle that is not known again"),
            (8, 1, "a crash on the last attempt that waits again"),
        )
    ),
)


def main() -> int:
    """Run all searches and print a table; 1 if one did not end as it must, 2 if a tool is missing."""
    missing = [what for tool, what in NEEDS.items() if shutil.which(tool) is None]
    if missing:
        print(f"make model needs {' and '.join(missing)}. {HINT}", file=sys.stderr)
        return 2
    wrong = 0
    for search in SEARCHES:
        started = time.monotonic()
        found, states = run(search)
        right = bool(found) is search.must_fail
        wrong += not right
        verdict = ("fails, as it must: " + found if search.must_fail else "holds") if right else found or "DID NOT FAIL"
        took_s = time.monotonic() - started
        mark = "ok " if right else "BAD"
        print(f"{mark}  {search.name:<48} {states:>10,} states {took_s:6.1f} s  {verdict}", flush=True)
    return 1 if wrong else 0


def run(search: Search) -> tuple[str, int]:
    """Search; return what was found ("" for nothing) and how many states were seen."""
    with tempfile.TemporaryDirectory(prefix="goqueue-model-") as folder:
        _run(folder, "spin", *(f"-D{define}" for define in search.defines), "-a", str(MODEL))
        how = ("-DNFAIR=3",) if search.liveness else ("-DSAFETY", "-DNOCLAIM")
        _run(folder, "cc", "-O2", "-w", "-DCOLLAPSE", *how, "-o", "pan", "pan.c")
        said = _run(folder, "./pan", "-m200000", "-w25", *(("-a", "-f") if search.liveness else ()))
    counted = re.search(r"^\s*(\d+) states, stored", said, re.MULTILINE)
    if counted is None or "max search depth too small" in said:
        raise SystemExit(f"the search did not end as expected:\n{said}")
    found = re.search(r"^pan:1: (.*?)(?: \(at depth.*)?$", said, re.MULTILINE)
    return (found[1] if found else ""), int(counted[1])


def _run(folder: str, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
