-- sweep: jobs that wait and were not started in time, or whose total deadline has passed, are dead.
-- $1 to $8 as sweep_orphans.sql
-- Rows: one: how many became dead, whether the term is the present one, how many expire_at were set right.
-- The limits are reckoned again from the row: a worker of an older version sets run_at and leaves expire_at as it was.
-- Indexes: job_expire, job_pkey.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
term AS MATERIALIZED (SELECT true /*term $1 $3 $4 $5*/ AS present),
held AS MATERIALIZED (
    SELECT
        j.ctid AS tid, 5 AS ended, 1 AS one,
        CASE
            WHEN j.deadline_at <= clock.now THEN 'deadline'
            WHEN j.state = 0 AND j.run_at + make_interval(secs => j.schedule_to_start_s) <= clock.now THEN 'expired'
        END AS reason
    FROM goqueue.job AS j, clock
    WHERE j.expire_at <= (SELECT now FROM clock) AND j.state <> 1
      AND ($6::uuid IS NULL OR j.id = $6::uuid) AND (SELECT present FROM term)
    ORDER BY j.expire_at
    LIMIT $2::int4
    FOR UPDATE OF j SKIP LOCKED
),
gone AS (
    DELETE FROM goqueue.job AS j
    USING held AS h
    WHERE j.ctid = h.tid AND h.one = 1 AND h.reason IS NOT NULL
    RETURNING
        j.* /*ending*/, j.cancel_requested_at, j.fence + 1 AS fence, j.attempt, j.crashes, h.ended, NULL::json AS result, h.reason,
        jsonb_path_query_array(
            coalesce(j.errors, '[]') || jsonb_build_array(jsonb_build_object(
                'attempt', j.attempt,
                'at', to_char((SELECT now FROM clock) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                'type', 'DeadlineExceeded', 'traceback', '', 'message',
                CASE h.reason WHEN 'deadline' THEN 'it did not end within deadline_s'
                    ELSE 'it was not started within schedule_to_start_s' END)),
            '$[last - 19 to last]') AS errors,
        true /*expires_on $7 $8*/ AS expires_on
),
/*finish*/
mended AS (
    UPDATE goqueue.job AS j
    SET expire_at = least(
        j.deadline_at, CASE WHEN j.state = 0 THEN j.run_at + make_interval(secs => j.schedule_to_start_s) END)
    FROM held AS h
    WHERE j.ctid = h.tid AND h.one = 1 AND h.reason IS NULL
    RETURNING j.id
)
SELECT (SELECT count(*) FROM gone)::int4, (SELECT present FROM term), (SELECT count(*) FROM mended)::int4
