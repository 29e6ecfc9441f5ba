-- What becomes of jobs that have just become final. Needs `gone`: the columns of a job as it ends, and ended (its state),
-- reason, result and expires_on (null: it is not kept). It moves to history; its key is free, or held on for its window
-- (or until the job leaves the history) if the job asked for that in this state.
kept AS (
    INSERT INTO goqueue.job_history (
        id, created_at, run_at, attempted_at, cancel_requested_at, fence, timeout_s, attempt, max_attempts, crashes,
        max_crashes, state, priority, flags, worker_id, tenant, queue, group_key, kind, args, tags, meta, errors, progress,
        unique_key, key, key_window_s, retry, schedule_to_start_s, deadline_at, finished_at, expires_on, result, reason)
    SELECT
        g.id, g.created_at, g.run_at, g.attempted_at, g.cancel_requested_at, g.fence, g.timeout_s, g.attempt, g.max_attempts,
        g.crashes, g.max_crashes, g.ended, g.priority, g.flags, g.worker_id, g.tenant, g.queue, g.group_key, g.kind, g.args,
        g.tags, g.meta, g.errors, g.progress, g.unique_key, g.key, g.key_window_s, g.retry, g.schedule_to_start_s,
        g.deadline_at, clock.now, g.expires_on, g.result, g.reason
    FROM gone AS g
    CROSS JOIN clock
    WHERE g.expires_on IS NOT NULL
    /*history_again*/
),
freed AS (
    DELETE FROM goqueue.job_key AS k
    USING gone AS g
    WHERE g.flags & 1 = 1
      AND k.tenant = g.tenant AND k.queue = g.queue AND k.key = g.key AND k.job_id = g.id
      AND (g.flags & (1 << g.ended) = 0 OR g.expires_on IS NULL AND g.key_window_s IS NULL)
),
still AS (
    UPDATE goqueue.job_key AS k
    SET until = least(
        coalesce(clock.now + make_interval(secs => g.key_window_s), 'infinity'), g.expires_on::timestamp AT TIME ZONE 'UTC')
    FROM gone AS g, clock
    WHERE g.flags & 1 = 1
      AND k.tenant = g.tenant AND k.queue = g.queue AND k.key = g.key AND k.job_id = g.id
      AND g.flags & (1 << g.ended) <> 0 AND (g.expires_on IS NOT NULL OR g.key_window_s IS NOT NULL)
),
