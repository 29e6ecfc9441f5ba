-- enqueue: free keys whose hold by a final job has run out, so that the next try can take them.
-- $1 now or null  $2 tenants  $3 queues  $4 keys. Rows: none.
-- Locked in the order of the keys, as they are taken: two that free the same ones wait for each other and never deadlock.
-- Indexes: job_key_pkey.
WITH lapsed AS MATERIALIZED (
    SELECT k.tid, 1 AS one
    FROM (
        SELECT * FROM unnest($2::text[], $3::text[], $4::bytea[]) AS w(tenant, queue, key)
        ORDER BY w.tenant COLLATE "C", w.queue COLLATE "C", w.key OFFSET 0
    ) AS w
    CROSS JOIN LATERAL (
        SELECT k.ctid AS tid
        FROM goqueue.job_key AS k
        WHERE k.tenant = w.tenant AND k.queue = w.queue AND k.key = w.key
          AND k.until <= (SELECT coalesce($1::timestamptz, clock_timestamp()))
        FOR UPDATE
    ) AS k
)
DELETE FROM goqueue.job_key AS k
USING lapsed AS l
WHERE k.ctid = l.tid AND l.one = 1
