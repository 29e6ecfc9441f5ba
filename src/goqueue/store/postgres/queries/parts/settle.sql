-- Settle a mixed batch of outcomes: `held` are those that may be written, `gone` the jobs that end, `again` those that wait.
-- $1 ids  $2 fences  $3 new states (0 waits again, 3 completed, 4 cancelled, 5 dead, 6 crashed)  $4 change of attempt
-- $5 delays in seconds  $6 results (JSON) or null  $7 errors ({type, message, traceback}) or null
-- $8 reasons (of endings, or why it was put off) or null  $9 retentions in seconds of completed, cancelled and dead jobs (null: for ever)
-- $10 the same by queue, or null  $11 crash delay in seconds
-- Needs clock. Indexes: job_pkey. `state + 0` keeps the planner from taking job_running instead of the primary key; the
-- constant final says that few rows come, so that writes go by TID.
held AS MATERIALIZED (
    SELECT
        j.tid, o.nth, o.delay_s, o.result, o.error, o.attempt, j.ended, j.crashed,
        CASE
            WHEN j.ended = o.state THEN o.reason
            WHEN j.ended = 4 THEN 'cancelled'
            WHEN j.ended = 5 THEN 'crashed'
        END AS reason,
        CASE WHEN j.ended = 0 THEN 0 ELSE 1 END AS final
    FROM unnest($1::uuid[], $2::int8[], $3::int2[], $4::int4[], $5::float8[], $6::text[], $7::text[], $8::text[])
        WITH ORDINALITY AS o(id, fence, state, attempt, delay_s, result, error, reason, nth)
    CROSS JOIN LATERAL (
        SELECT
            j.ctid AS tid, CASE WHEN o.state = 6 THEN 1 ELSE 0 END AS crashed,
            CASE
                WHEN o.state BETWEEN 3 AND 5 THEN o.state
                WHEN j.cancel_requested_at IS NOT NULL THEN 4
                WHEN o.state = 6 AND (j.crashes + 1 >= j.max_crashes OR j.attempt >= j.max_attempts) THEN 5
                ELSE 0
            END AS ended
        FROM goqueue.job AS j
        WHERE j.id = o.id AND j.fence = o.fence AND j.state + 0 = 1
        FOR UPDATE SKIP LOCKED
    ) AS j
),
gone AS (
    DELETE FROM goqueue.job AS j
    USING held AS h
    WHERE j.ctid = h.tid AND h.final = 1
    RETURNING
        j.* /*ending*/, j.cancel_requested_at, j.fence, j.attempt + h.attempt AS attempt, j.crashes + h.crashed AS crashes,
        true /*errors*/ AS errors, h.ended, h.nth, h.result::json AS result, h.reason, true /*expires_on $9 $10*/ AS expires_on
),
again AS (
    UPDATE goqueue.job AS j
    SET state = 0, worker_id = NULL, attempt = j.attempt + h.attempt, crashes = j.crashes + h.crashed,
        run_at = clock.now + true /*delay $11*/,
        expire_at = least(j.deadline_at, clock.now + true /*delay $11*/ + make_interval(secs => j.schedule_to_start_s)),
        errors = true /*errors*/, reason = h.reason
    FROM held AS h, clock
    WHERE j.ctid = h.tid AND h.final = 0
    RETURNING h.nth
),
