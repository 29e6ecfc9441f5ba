"""Write docs/state_machine.md from the table in goqueue.model.state."""

from __future__ import annotations

from goqueue.model.state import TRANSITIONS, StoredState, Transition

PATH = "docs/state_machine.md"

HEAD = """\
# The life of a job

<!-- Made by scripts/state_machine.py from src/goqueue/model/state.py: change it there, then `make generate`. -->

A store keeps six states. Users see eight, because a job that waits is shown as what it waits for:

| stored | shown | when |
|---|---|---|
| waiting | `scheduled` | `run_at` is in the future and no attempt has been spent |
| waiting | `retrying` | `run_at` is in the future and an attempt has been spent |
| waiting | `ready` | `run_at` has come: nothing has to move a row when its time comes |
| running | `running` | a worker holds a lease on it |
| blocked | `blocked` | it waits for other jobs |
| completed, cancelled, dead | the same | final: the job has left the hot table for the history |

```mermaid
stateDiagram-v2
"""

MIDDLE = """\
```

## Every step

There are no other steps. `fence`, `attempt` and `crashes` are what the step adds to them; an empty cell adds nothing.

| from | event | to | fence | attempt | crashes | |
|---|---|---|---|---|---|---|
"""

TAIL = """
Two steps can be taken as one. When somebody has asked for a running job to be cancelled, a `retry`, `snooze`,
`release`, `crash` or `sweep` brings it back to waiting and a `cancel_request` ends it, in the same write: it is never
claimed in between. A `crash` or `sweep` of such a job is never the last: it ends cancelled, not dead.
A claim does not look at deadlines. It gives a job that has expired with the seconds that were left, which are negative
then, and the worker says `dead` without starting it; `expire` is for jobs that nobody claims.
`delete` is no step: waiting, blocked and final jobs vanish with all that is known of them; running ones are refused.

## The checker's law

For every job, at every instant:

- fence = claims + sweeps, where an `expire` is a sweep, too. It never falls, also not when somebody retries a final
  job by hand: whoever writes under an older fence changes nothing.
- attempt = claims − releases − snoozes. What is handed back costs nothing; everything else that was claimed counts,
  also a crash. So a crash on the last attempt ends as `dead`, never as `running`.
- crashes = sweeps of orphans + crashes that a supervisor reported. At `max_crashes` the job is `dead`, however many
  attempts it had left. Until then it waits before its next attempt, twice as long with each crash, and runs alone.

A manual retry keeps all three, and raises `max_attempts` and `max_crashes` where the next attempt would be beyond them.
The memory store takes each step from this table, the conformance suite holds every other store to it, and a test walks
it at random and holds the law against every walk.
"""


def document() -> dict[str, str]:
    """Return the file and its text."""
    edges = "".join(f"    {_name(t.before)} --> {_name(t.after)}: {t.event.value}\n" for t in TRANSITIONS)
    ends = "".join(f"    {_name(s)} --> [*]\n" for s in StoredState if s >= StoredState.COMPLETED)
    rows = "".join(_row(t) for t in TRANSITIONS)
    return {PATH: HEAD + edges + ends + MIDDLE + rows + TAIL}


def _row(t: Transition) -> str:
    before = "(new)" if t.before is None else _name(t.before)
    cells = [before, f"`{t.event.value}`", _name(t.after), _sign(t.fence), _sign(t.attempt), _sign(t.crashes), t.note]
    return "| " + " | ".join(cells) + " |\n"


def _name(state: StoredState | None) -> str:
    return "[*]" if state is None else state.name.lower()


def _sign(number: int) -> str:
    return f"{number:+d}".replace("-", "−") if number else ""
