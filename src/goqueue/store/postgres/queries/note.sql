-- settle: keep what attempts have said that no beat has brought (progress, logs), before their outcomes are written.
-- $1 now or null  $2 ids  $3 fences  $4 progress (JSON) or null  $5 logs (JSON) or null
-- Rows: ordinals (from 1) of those that were kept. The others run no more under their fence, or somebody has them locked.
-- Indexes: job_pkey. `state + 0` keeps the planner from taking job_running.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
locked AS MATERIALIZED (
    SELECT j.tid, h.nth, h.progress, h.logs, 1 AS one
    FROM unnest($2::uuid[], $3::int8[], $4::text[], $5::text[]) WITH ORDINALITY AS h(id, fence, progress, logs, nth)
    CROSS JOIN LATERAL (
        SELECT j.ctid AS tid
        FROM goqueue.job AS j
        WHERE j.id = h.id AND j.fence = h.fence AND j.state + 0 = 1
        FOR UPDATE SKIP LOCKED
    ) AS j
)
UPDATE goqueue.job AS j
SET progress = coalesce(l.progress::json, j.progress), logs = true /*add_logs*/
FROM locked AS l
WHERE j.ctid = l.tid AND l.one = 1
RETURNING l.nth::int4
