-- What both sweeps do with the orphans in `held` (tid, one): fence and crashes grow; the job waits again, is cancelled
-- if that was wanted, or is dead when its crashes or attempts are used up.
, judged AS MATERIALIZED (
    SELECT
        h.tid,
        CASE
            WHEN j.cancel_requested_at IS NOT NULL THEN 4
            WHEN j.crashes + 1 >= j.max_crashes OR j.attempt >= j.max_attempts THEN 5
            ELSE 0
        END AS state,
        jsonb_path_query_array(
            coalesce(j.errors, '[]') || jsonb_build_array(jsonb_build_object(
                'attempt', j.attempt, 'at', to_char(clock.now AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                'type', 'WorkerCrashed', 'message', 'its worker died or was not heard of in time', 'traceback', '')),
            '$[last - 19 to last]') AS errors
    FROM held AS h
    JOIN goqueue.job AS j ON j.ctid = h.tid AND h.one = 1
    CROSS JOIN clock
),
gone AS (
    DELETE FROM goqueue.job AS j
    USING judged AS h
    WHERE j.ctid = h.tid AND j.state + 0 = 1 AND h.state <> 0
    RETURNING
        j.id, j.created_at, j.run_at, j.attempted_at, j.cancel_requested_at, j.fence + 1 AS fence, j.timeout_s, j.attempt,
        j.max_attempts, j.crashes + 1 AS crashes, j.max_crashes, j.priority, j.flags, j.worker_id, j.tenant, j.queue,
        j.group_key, j.kind, j.args, j.tags, j.meta, j.progress, j.unique_key, j.key, j.key_window_s, h.state AS ended, h.errors,
        coalesce((((SELECT now FROM clock) + make_interval(secs => CASE h.state WHEN 4 THEN $3::float8 ELSE $4::float8 END))
            AT TIME ZONE 'UTC')::date + 1, 'infinity') AS expires_on
),
kept AS (
    INSERT INTO goqueue.job_history (
        id, created_at, run_at, attempted_at, cancel_requested_at, fence, timeout_s, attempt, max_attempts, crashes,
        max_crashes, state, priority, flags, worker_id, tenant, queue, group_key, kind, args, tags, meta, errors, progress,
        unique_key, key, key_window_s, finished_at, expires_on, result, reason)
    SELECT
        g.id, g.created_at, g.run_at, g.attempted_at, g.cancel_requested_at, g.fence, g.timeout_s, g.attempt, g.max_attempts,
        g.crashes, g.max_crashes, g.ended, g.priority, g.flags, g.worker_id, g.tenant, g.queue, g.group_key, g.kind, g.args,
        g.tags, g.meta, g.errors, g.progress, g.unique_key, g.key, g.key_window_s, clock.now, g.expires_on,
        NULL, CASE g.ended WHEN 4 THEN 'cancelled' ELSE 'crashed' END
    FROM gone AS g
    CROSS JOIN clock
    /*history_again*/
),
/*free_keys*/
again AS (
    UPDATE goqueue.job AS j
    SET state = 0, worker_id = NULL, fence = j.fence + 1, crashes = j.crashes + 1, run_at = clock.now, errors = h.errors
    FROM judged AS h, clock
    WHERE j.ctid = h.tid AND j.state + 0 = 1 AND h.state = 0
    RETURNING j.id
)
