-- enqueue: insert jobs with unique keys, each only if it takes its key.
-- $1 to $15 as enqueue.sql  $16 keys (32 bytes each)  $17 unique_key texts or null  $18 flags of the final states that hold it, too  $19 windows or null
-- Rows: id, created_at, run_at of each that was inserted. The others met a holder (or their own id): ask enqueue_holders.
-- Keys are taken in their own order, so that two bulk inserts wait for each other and never deadlock.
-- DO NOTHING waits for an open transaction that inserts the same key, and takes the key if that one rolls back.
-- Indexes: job_key_pkey (conflict), job_pkey, job_ready.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
n AS MATERIALIZED (
    SELECT *
    FROM unnest(
        $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::float8[], $8::int2[], $9::text[], $10::text[],
        $11::int4[], $12::int4[], $13::float8[], $14::text[], $15::text[], $16::bytea[], $17::text[], $18::int2[], $19::float8[])
        AS n(id, tenant, queue, group_key, run_at, delay_s, priority, kind, args, max_attempts, max_crashes, timeout_s, tags,
             meta, key, unique_key, final_mask, window_s)
    WHERE NOT EXISTS (SELECT FROM goqueue.job AS j WHERE j.id = n.id)
),
taken AS (
    INSERT INTO goqueue.job_key (tenant, queue, key, job_id)
    SELECT n.tenant, n.queue, n.key, n.id
    FROM n
    ORDER BY n.tenant, n.queue, n.key, n.id
    ON CONFLICT (tenant, queue, key) DO NOTHING
    RETURNING job_id
)
INSERT INTO goqueue.job (
    id, created_at, run_at, tenant, queue, group_key, priority, kind, args, max_attempts, max_crashes, timeout_s, tags, meta,
    flags, key, unique_key, key_window_s)
SELECT
    n.id, clock.now,
    greatest(clock.now, coalesce(n.run_at, clock.now + make_interval(secs => n.delay_s))),
    n.tenant, n.queue, n.group_key, n.priority, n.kind, n.args::json, n.max_attempts, n.max_crashes, n.timeout_s,
    n.tags::text[], n.meta::json, 1 | n.final_mask, n.key, n.unique_key, n.window_s
FROM n
CROSS JOIN clock
WHERE n.id IN (SELECT t.job_id FROM taken AS t)
RETURNING id::text, created_at, run_at
