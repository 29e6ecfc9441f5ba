-- settle: write a mixed batch of outcomes, each only if it is still running under its fence.
-- $1 ids  $2 fences  $3 new states (0 waits again, 2 completed, 3 cancelled, 4 dead)
-- $4 delays in seconds  $5 results or errors (JSON text or null)  $6 days to keep.
-- Row: the ordinals (from 1) that were applied to no row, or null. Indexes: primary key.
-- What counts as applied is what the writes return, not what was locked: a row that changed
-- after the statement's snapshot is locked in its new version, which the write cannot see.
WITH held AS MATERIALIZED (
    SELECT j.tid, o.nth, o.state, o.delay_s, o.body,
           CASE WHEN o.state = 0 THEN 0 ELSE 1 END AS final
    FROM unnest($1::uuid[], $2::int8[], $3::int2[], $4::float8[], $5::text[])
        WITH ORDINALITY AS o(id, fence, state, delay_s, body, nth)
    LEFT JOIN LATERAL (
        SELECT j.ctid AS tid
        FROM goqueue.job AS j
        WHERE j.id = o.id AND j.fence = o.fence AND j.state + 0 = 1
        FOR UPDATE SKIP LOCKED
    ) AS j ON true
),
gone AS (
    DELETE FROM goqueue.job AS j
    USING held AS h
    WHERE j.ctid = h.tid AND h.final = 1
    RETURNING j.*, h.state AS new_state, h.body, h.nth
),
kept AS (
    INSERT INTO goqueue.job_history (
        id, created_at, run_at, attempted_at, cancel_requested_at, fence, timeout_s, attempt,
        max_attempts, state, priority, crashes, max_crashes, flags, worker_id, tenant, queue,
        group_key, kind, args, tags, meta, errors, progress, unique_key, key,
        finished_at, expires_on, result)
    SELECT
        g.id, g.created_at, g.run_at, g.attempted_at, g.cancel_requested_at, g.fence, g.timeout_s,
        g.attempt, g.max_attempts, g.new_state, g.priority, g.crashes, g.max_crashes, g.flags,
        g.worker_id, g.tenant, g.queue, g.group_key, g.kind, g.args, g.tags, g.meta,
        CASE WHEN g.new_state = 2 THEN g.errors ELSE coalesce(g.body::json, g.errors) END,
        g.progress, g.unique_key, g.key, now(), current_date + $6::int4,
        CASE WHEN g.new_state = 2 THEN g.body::json END
    FROM gone AS g
),
again AS (
    UPDATE goqueue.job AS j
    SET state = 0, worker_id = NULL, run_at = clock_timestamp() + make_interval(secs => h.delay_s),
        errors = coalesce(h.body::json, j.errors)
    FROM held AS h
    WHERE j.ctid = h.tid AND h.final = 0
    RETURNING h.nth
),
wrote AS (
    SELECT g.nth FROM gone AS g UNION ALL SELECT a.nth FROM again AS a
)
SELECT CASE WHEN (SELECT count(*) FROM held) <> (SELECT count(*) FROM wrote)
    THEN ARRAY(SELECT h.nth FROM held AS h EXCEPT ALL SELECT w.nth FROM wrote AS w) END AS missed
