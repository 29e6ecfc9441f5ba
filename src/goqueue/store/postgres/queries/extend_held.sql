-- extend: keep the progress of running jobs; tell which leases are lost, which jobs somebody wants cancelled, and which
-- jobs run under this worker's name although it did not name them (the answer to a claim was cut off).
-- $1 worker id  $2 ids  $3 fences  $4 progress (JSON) or null  $5 strays at most  $6 logs (JSON) or null  $7 now or null
-- Rows: 'lost', 'cancel', 'unkept' (its news was not written) or 'stray'; tenant, queue, id, fence (tenant and queue only of
-- strays).
-- Indexes: job_pkey, and job_running for the strays. `state + 0` keeps the planner from taking job_running elsewhere.
WITH clock AS MATERIALIZED (SELECT coalesce($7::timestamptz, clock_timestamp()) AS now),
h AS MATERIALIZED (
    SELECT *, 1 AS one FROM unnest($2::uuid[], $3::int8[], $4::text[], $6::text[]) AS h(id, fence, progress, logs)
),
now_running AS MATERIALIZED (
    SELECT h.id, j.id IS NULL AS lost, j.cancel_requested_at IS NOT NULL AS cancel
    FROM h
    LEFT JOIN goqueue.job AS j ON j.id = h.id AND j.fence = h.fence AND j.state + 0 = 1 AND j.worker_id = $1::uuid
),
locked AS MATERIALIZED (
    SELECT j.tid, h.progress, h.logs, 1 AS one
    FROM h
    CROSS JOIN LATERAL (
        SELECT j.ctid AS tid
        FROM goqueue.job AS j
        WHERE j.id = h.id AND j.fence = h.fence AND j.state + 0 = 1 AND j.worker_id = $1::uuid
        FOR UPDATE SKIP LOCKED
    ) AS j
    WHERE h.progress IS NOT NULL OR h.logs IS NOT NULL
),
kept AS (
    UPDATE goqueue.job AS j
    SET progress = coalesce(l.progress::json, j.progress), logs = true /*add_logs*/
    FROM locked AS l
    WHERE j.ctid = l.tid AND l.one = 1
    RETURNING j.id
)
SELECT CASE WHEN r.lost THEN 'lost' ELSE 'cancel' END, NULL, NULL, r.id::text, 0
FROM now_running AS r
WHERE r.lost OR r.cancel
UNION ALL
SELECT 'unkept', NULL, NULL, h.id::text, 0
FROM h
WHERE (h.progress IS NOT NULL OR h.logs IS NOT NULL) AND h.id NOT IN (SELECT id FROM kept)
UNION ALL
(
    SELECT 'stray', j.tenant, j.queue, j.id::text, j.fence
    FROM goqueue.job AS j
    WHERE j.worker_id = $1::uuid AND j.state = 1 AND j.id <> ALL ($2::uuid[])
    LIMIT $5::int4
)
