-- claim_settle: settle.sql and claim.sql in one statement: one trip, one plan, one commit.
-- $1-$6 as settle.sql, $7-$15 as claim.sql ($1-$9 there).
-- Rows: at least one; `missed` is on each, the lease columns are null if nothing was claimed.
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
),
pick AS MATERIALIZED (
    SELECT j.tid, l.one, l.lane
    FROM unnest($7::text[], $8::text[], $9::int2[], $10::text[], $11::timestamptz[], $12::uuid[],
                $13::int4[])
        WITH ORDINALITY AS u(tenant, queue, priority, group_key, run_at, id, n, lane)
    CROSS JOIN LATERAL (SELECT u.lane::int4 AS lane, 1 AS one) AS l
    CROSS JOIN LATERAL (
        SELECT j.ctid AS tid
        FROM goqueue.job AS j
        WHERE j.state = 0
          AND j.tenant = u.tenant AND j.queue = u.queue
          AND j.priority = u.priority AND j.group_key = u.group_key
          AND j.run_at <= now() AND (j.run_at, j.id) > (u.run_at, u.id)
        ORDER BY j.run_at, j.id
        LIMIT u.n
        FOR UPDATE SKIP LOCKED
    ) AS j
    WHERE EXISTS (SELECT FROM goqueue.worker AS w WHERE w.id = $15 AND w.expires_at > now())
    LIMIT $14
),
lease AS (
    UPDATE goqueue.job AS j
    SET state = 1, fence = j.fence + 1, attempt = j.attempt + 1, worker_id = $15,
        attempted_at = now()
    FROM pick
    WHERE j.ctid = pick.tid AND pick.one = 1
    RETURNING
        j.id, pick.lane, j.fence, j.attempt, j.max_attempts, j.crashes, j.max_crashes, j.flags,
        j.timeout_s, j.run_at, j.kind, j.args::text, j.tags, j.meta::text
)
SELECT
    m.missed, l.id, l.lane, l.fence, l.attempt, l.max_attempts, l.crashes, l.max_crashes, l.flags,
    l.timeout_s, l.run_at, l.kind, l.args, l.tags, l.meta
FROM (
    SELECT CASE WHEN (SELECT count(*) FROM held) <> (SELECT count(*) FROM wrote)
        THEN ARRAY(SELECT h.nth FROM held AS h EXCEPT ALL SELECT w.nth FROM wrote AS w) END AS missed
) AS m
LEFT JOIN lease AS l ON true
