-- claim_settle of shape A: parameters and rows as in b/claim_settle.sql ($6 is not used:
-- rows are pruned by age).
-- Rows: at least one; `missed` is on each, the lease columns are null if nothing was claimed.
WITH held AS MATERIALIZED (
    SELECT j.tid, o.nth, o.state, o.delay_s, o.body,
           CASE WHEN o.state = 0 THEN 0 ELSE 1 END AS final, 1 AS one
    FROM unnest($1::uuid[], $2::int8[], $3::int2[], $4::float8[], $5::text[])
        WITH ORDINALITY AS o(id, fence, state, delay_s, body, nth)
    LEFT JOIN LATERAL (
        SELECT j.ctid AS tid
        FROM goqueue.job AS j
        WHERE j.id = o.id AND j.fence = o.fence AND j.state + 0 = 1
        FOR UPDATE SKIP LOCKED
    ) AS j ON true
),
done AS (
    UPDATE goqueue.job AS j
    SET state = h.state,
        worker_id = CASE WHEN h.final = 1 THEN j.worker_id END,
        run_at = CASE WHEN h.final = 1 THEN j.run_at
                 ELSE clock_timestamp() + make_interval(secs => h.delay_s) END,
        finished_at = CASE WHEN h.final = 1 THEN now() END,
        result = CASE WHEN h.state = 2 THEN h.body::json END,
        errors = CASE WHEN h.state = 2 THEN j.errors ELSE coalesce(h.body::json, j.errors) END
    FROM held AS h
    WHERE j.ctid = h.tid AND h.one = 1
    RETURNING h.nth
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
    SELECT CASE WHEN (SELECT count(*) FROM held) <> (SELECT count(*) FROM done)
        THEN ARRAY(SELECT h.nth FROM held AS h EXCEPT ALL SELECT w.nth FROM done AS w) END AS missed
) AS m
LEFT JOIN lease AS l ON $6::int4 IS NOT NULL
