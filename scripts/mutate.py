"""`make mutate`: drop each guard of the statements that write, one at a time; a test has to notice.

A guard is a piece of text in one SQL file (scripts/mutation/). A copy of the package without it is tested: first the
tests that the guard names, then all of the store's. The run fails if a guard is missed by nobody, if a guard has moved
in its file, or if the tests fail without any mutation. Arguments choose guards by a part of their title;
``--list`` only shows them; ``--named`` does not go on to all tests.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from scripts.mutation.guards import GUARDS
from scripts.mutation.run import AT_A_TIME, Result, Verdict, control, copied_package, try_guard
from tests.support.database import running_server

WIDTH: Final = 62


def main(arguments: list[str]) -> int:
    """Check the guards whose titles contain one of the arguments; 1 if one is missed by nobody."""
    words = [argument for argument in arguments if not argument.startswith("-")]
    chosen = [guard for guard in GUARDS if not words or any(word in guard.title for word in words)]
    if "--list" in arguments:
        for guard in chosen:
            print(f"{guard.title:{WIDTH}} {guard.equivalent or guard.tests}")
        return 0
    faults = [fault for guard in chosen if not guard.equivalent and (fault := guard.fault())]
    if faults or not chosen:
        print("\n".join(faults) or "no guard is called that", file=sys.stderr)
        return 1
    started = time.monotonic()
    with running_server() as server, copied_package() as snapshot:
        if wrong := control(chosen, snapshot, server.data_dir):
            print(wrong, file=sys.stderr)
            return 1
        print(
            f"{len(chosen)} guards; without a mutation the tests pass ({time.monotonic() - started:.0f} s)", flush=True
        )
        (snapshot / "killer").unlink(missing_ok=True)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            everything = "--named" not in arguments
            results = pool.map(lambda g: try_guard(g, snapshot, server.data_dir, everything=everything), chosen)
            told = [tell(result) for result in results]
    return summary(told, time.monotonic() - started)


def tell(result: Result) -> Result:
    """Print one row of the table."""
    late = "" if result.in_time else " (not among the tests that it names)"
    print(f"{result.guard.title:{WIDTH}} {result.verdict:10} {result.seconds:5.1f} s  {result.by}{late}", flush=True)
    return result


def summary(results: list[Result], seconds: float) -> int:
    """Print the counts and what is wrong; the exit code."""
    count = {verdict: sum(r.verdict is verdict for r in results) for verdict in Verdict}
    print(", ".join(f"{number} {verdict}" for verdict, number in count.items()), f"in {seconds:.0f} s")
    wrong = [r for r in results if r.verdict in (Verdict.SURVIVED, Verdict.BROKEN)]
    for result in wrong:
        print(f"{result.verdict}: {result.guard.title}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
