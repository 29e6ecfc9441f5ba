-- What both sweeps do with the orphans in `held` (tid, one): fence and crashes grow; the job waits again for a delay that
-- doubles with each crash, is cancelled if that was wanted, or is dead when its crashes or attempts are used up.
-- $1 and $2 as parts/retention_s.sql  $3 crash delay in seconds
, judged AS MATERIALIZED (
    SELECT
        h.tid,
        CASE
            WHEN j.cancel_requested_at IS NOT NULL THEN 4
            WHEN j.crashes + 1 >= j.max_crashes OR j.attempt >= j.max_attempts THEN 5
            ELSE 0
        END AS ended,
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
    WHERE j.ctid = h.tid AND j.state + 0 = 1 AND h.ended <> 0
    RETURNING
        j.* /*ending*/, j.cancel_requested_at, j.fence + 1 AS fence, j.attempt, j.crashes + 1 AS crashes, h.ended, h.errors,
        NULL::json AS result, CASE h.ended WHEN 4 THEN 'cancelled' ELSE 'crashed' END AS reason,
        true /*expires_on $1 $2*/ AS expires_on
),
/*finish*/
again AS (
    UPDATE goqueue.job AS j
    SET state = 0, worker_id = NULL, fence = j.fence + 1, crashes = j.crashes + 1, errors = h.errors,
        reason = NULL,
        run_at = clock.now + true /*crash_delay $3*/,
        expire_at = least(
            j.deadline_at, clock.now + true /*crash_delay $3*/ + make_interval(secs => j.schedule_to_start_s))
    FROM judged AS h, clock
    WHERE j.ctid = h.tid AND j.state + 0 = 1 AND h.ended = 0
    RETURNING j.id
)
