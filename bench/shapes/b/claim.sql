-- claim: take up to $8 ready jobs from lanes, in the order of the lanes, then by (run_at, id).
-- $1 tenants  $2 queues  $3 priorities  $4 group keys  $5 low-water run_at  $6 low-water id
-- $7 rows per lane  $8 rows in all  $9 worker id.  Rows: leases. No live worker row: no rows.
-- Indexes: job_ready, worker primary key. `pick.one = 1` says to the planner that few rows
-- come, so that the update goes by TID whatever the statistics are.
WITH pick AS MATERIALIZED (
    SELECT j.tid, l.one, l.lane
    FROM unnest($1::text[], $2::text[], $3::int2[], $4::text[], $5::timestamptz[], $6::uuid[],
                $7::int4[])
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
    WHERE EXISTS (SELECT FROM goqueue.worker AS w WHERE w.id = $9 AND w.expires_at > now())
    LIMIT $8
)
UPDATE goqueue.job AS j
SET state = 1, fence = j.fence + 1, attempt = j.attempt + 1, worker_id = $9,
    attempted_at = now()
FROM pick
WHERE j.ctid = pick.tid AND pick.one = 1
RETURNING
    j.id, pick.lane, j.fence, j.attempt, j.max_attempts, j.crashes, j.max_crashes, j.flags,
    j.timeout_s, j.run_at, j.kind, j.args::text, j.tags, j.meta::text
