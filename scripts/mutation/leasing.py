"""Guards of the statements that extend leases and that write under one: extend*.sql, enqueue_by.sql."""

from __future__ import annotations

from typing import Final

from scripts.mutation.guard import GUARDS, Guard, equivalent

_LOST: Final = "ON j.id = h.id AND j.fence = h.fence AND j.state + 0 = 1 AND j.worker_id = $1::uuid"
_KEPT: Final = "WHERE j.id = h.id AND j.fence = h.fence AND j.state + 0 = 1 AND j.worker_id = $1::uuid"
_NO_WORKER: Final = (
    "a job that does not run has no worker (every way back to waiting takes it away), and it is compared too"
)

LEASING: Final = (
    Guard("extend.sql", "a beat moves the end of the lease", " expires_at = excluded.expires_at,", "", "moves_the_end"),
    Guard("extend.sql", "a beat is noted", "beat_at = excluded.beat_at,", "", "moves_the_end"),
    Guard(
        "extend.sql",
        "a later beat changes the row",
        "ON CONFLICT (id) DO UPDATE SET\n    beat_at",
        "ON CONFLICT (id) DO UPDATE SET\n    started_at = excluded.started_at, beat_at",
        "moves_the_end",
    ),
    Guard("extend.sql", "a worker says that it is idle", " idle = excluded.idle,", "", "later_beat", GUARDS),
    Guard("extend.sql", "a worker says that it drains", "draining = excluded.draining, ", "", "later_beat", GUARDS),
    Guard(
        "extend.sql",
        "a worker says which queues it serves",
        "queues = excluded.queues, kinds",
        "kinds",
        "later_beat",
        GUARDS,
    ),
    Guard(
        "extend_held.sql",
        "a lease under an old fence is lost",
        _LOST,
        "ON j.id = h.id AND j.state + 0 = 1 AND j.worker_id = $1::uuid",
        "old_fence_of_the_same_worker",
        GUARDS,
    ),
    equivalent("extend_held.sql", "lost: the job runs no more", _NO_WORKER),
    Guard(
        "extend_held.sql",
        "the lease of another worker is lost",
        _LOST,
        "ON j.id = h.id AND j.fence = h.fence AND j.state + 0 = 1",
        "lease_of_another_worker",
    ),
    Guard(
        "extend_held.sql",
        "no progress under an old fence",
        _KEPT,
        "WHERE j.id = h.id AND j.state + 0 = 1 AND j.worker_id = $1::uuid",
        "old_fence_of_the_same_worker",
        GUARDS,
    ),
    equivalent("extend_held.sql", "progress: the job runs no more", _NO_WORKER),
    Guard(
        "extend_held.sql",
        "no progress by another worker",
        _KEPT,
        "WHERE j.id = h.id AND j.fence = h.fence AND j.state + 0 = 1",
        "lease_of_another_worker",
    ),
    Guard(
        "extend_held.sql",
        "a beat passes over locked jobs",
        "FOR UPDATE SKIP LOCKED",
        "FOR UPDATE",
        "beat_passes",
        GUARDS,
    ),
    Guard(
        "extend_held.sql",
        "no news keeps the progress",
        "coalesce(l.progress::json, j.progress)",
        "l.progress::json",
        "lines_alone_keep",
    ),
    equivalent(
        "parts/add_logs.sql",
        "no lines keep the lines",
        "none are added to those that are there; where there are none, they become an empty list, which reads the same",
    ),
    Guard(
        "parts/add_logs.sql",
        "a line that comes again is known",
        "    WHERE e.n > CASE",
        "    WHERE 0 <= CASE",
        "come_again_are_added_once",
    ),
    Guard(
        "parts/add_logs.sql",
        "each lease counts its lines anew",
        "WHEN (j.logs #>> '{-1,fence}')::int8 = j.fence THEN",
        "WHEN true THEN",
        "counts_its_lines_anew",
    ),
    Guard(
        "parts/add_logs.sql", "the newest lines are kept", "'$[last - 99 to last]'", "'$[0 to 99]'", "only_the_newest"
    ),
    Guard(
        "parts/add_logs.sql", "the store says when it was", " - make_interval(secs => e.age_s)", "", "store_says_when"
    ),
    Guard(
        "note.sql",
        "no note under an old fence",
        "WHERE j.id = h.id AND j.fence = h.fence AND j.state + 0 = 1",
        "WHERE j.id = h.id AND j.state + 0 = 1",
        "under_an_old_fence_nothing",
    ),
    Guard(
        "note.sql",
        "no note once it runs no more",
        "WHERE j.id = h.id AND j.fence = h.fence AND j.state + 0 = 1",
        "WHERE j.id = h.id AND j.fence = h.fence",
        "waits_again_takes_no_note",
    ),
    Guard(
        "note.sql",
        "lines alone keep the progress",
        "coalesce(l.progress::json, j.progress)",
        "l.progress::json",
        "goes_with_the_outcome",
        GUARDS,
    ),
    Guard("note.sql", "a note passes over locked jobs", "FOR UPDATE SKIP LOCKED", "FOR UPDATE", "note_passes", GUARDS),
    Guard(
        "extend_held.sql",
        "what was not kept is told",
        "AND h.id NOT IN (SELECT id FROM kept)",
        "AND false",
        "beat_passes",
        GUARDS,
    ),
    Guard(
        "extend_held.sql",
        "what was kept is not told",
        "AND h.id NOT IN (SELECT id FROM kept)",
        "",
        "only_what_was_not_kept",
        GUARDS,
    ),
    Guard(
        "extend_held.sql", "only what is lost or wanted is told", "WHERE r.lost OR r.cancel\n", "", "beat_tells_what"
    ),
    Guard(
        "extend_held.sql",
        "what is lost is told",
        "WHERE r.lost OR r.cancel\n",
        "WHERE r.cancel\n",
        "tells_what_is_lost",
    ),
    Guard(
        "extend_held.sql", "what is wanted is told", "WHERE r.lost OR r.cancel\n", "WHERE r.lost\n", "wants_cancelled"
    ),
    Guard(
        "extend_held.sql",
        "strays are this worker's",
        "WHERE j.worker_id = $1::uuid AND j.state = 1 AND j.id",
        "WHERE j.state = 1 AND j.id",
        "names_leases",
    ),
    equivalent(
        "extend_held.sql", "strays: j.state = 1", "only a running job has a worker; it leads to the index job_running"
    ),
    Guard("extend_held.sql", "what was named is no stray", " AND j.id <> ALL ($2::uuid[])", "", "names_leases"),
    Guard("extend_held.sql", "strays are bounded", "    LIMIT $5::int4\n", "", "strays_are_bounded", GUARDS),
    Guard("enqueue_by.sql", "under this fence only", " AND j.fence = $3::int8", "", "lost_lease_enqueues"),
    equivalent("enqueue_by.sql", "j.state + 0 = 1", "only a running job has a worker, whose row is asked for"),
    Guard(
        "enqueue_by.sql",
        "not under an expired lease",
        "w.expires_at > (SELECT",
        "'infinity' > (SELECT",
        "expired_lease_enqueues",
    ),
    Guard(
        "enqueue_by.sql",
        "the fate of the lease waits for the jobs",
        "\nFOR NO KEY UPDATE OF j",
        "",
        "fate_of_a_lease",
        GUARDS,
    ),
)
