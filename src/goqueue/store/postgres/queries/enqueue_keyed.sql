-- enqueue: insert jobs with unique keys, each only if it takes its key.
-- $1 to $18 as enqueue_limited.sql  $19 keys (32 bytes each)  $20 unique_key texts or null  $21 flags  $22 windows or null
-- Rows: id, created_at, run_at of each that was inserted. The others met a holder (or their own id): ask enqueue_holders.
-- Keys are taken in their own order, so that two bulk inserts wait for each other and never deadlock.
-- DO NOTHING waits for an open transaction that inserts the same key, and takes the key if that one rolls back.
-- Indexes: job_key_pkey (conflict), job_pkey, job_ready, job_expire.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
n AS MATERIALIZED (
    SELECT n.*, greatest(clock.now, coalesce(n.start_at, clock.now + make_interval(secs => n.delay_s))) AS run_at,
        clock.now + make_interval(secs => n.deadline_s) AS deadline_at
    FROM unnest(
        $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::float8[], $8::int2[], $9::text[], $10::text[],
        $11::int4[], $12::int4[], $13::float8[], $14::text[], $15::text[], $16::text[], $17::float8[], $18::float8[],
        $19::bytea[], $20::text[], $21::int2[], $22::float8[])
        AS n(id, tenant, queue, group_key, start_at, delay_s, priority, kind, args, max_attempts, max_crashes, timeout_s, tags,
             meta, retry, schedule_to_start_s, deadline_s, key, unique_key, flags, window_s)
    CROSS JOIN clock
    WHERE NOT EXISTS (SELECT FROM goqueue.job AS j WHERE j.id = n.id)
),
taken AS (
    INSERT INTO goqueue.job_key (tenant, queue, key, job_id)
    SELECT n.tenant, n.queue, n.key, n.id
    FROM n
    ORDER BY n.tenant COLLATE "C", n.queue COLLATE "C", n.key, n.id
    ON CONFLICT (tenant, queue, key) DO NOTHING
    RETURNING job_id
)
INSERT INTO goqueue.job (
    id, created_at, run_at, tenant, queue, group_key, priority, kind, args, max_attempts, max_crashes, timeout_s, tags, meta,
    flags, key, unique_key, key_window_s, retry, schedule_to_start_s, deadline_at, expire_at)
SELECT
    n.id, clock.now, n.run_at, n.tenant, n.queue, n.group_key, n.priority, n.kind, n.args::json, n.max_attempts, n.max_crashes,
    n.timeout_s, n.tags::text[], n.meta::json, n.flags, n.key, n.unique_key, n.window_s, n.retry::json, n.schedule_to_start_s,
    n.deadline_at, least(n.deadline_at, n.run_at + make_interval(secs => n.schedule_to_start_s))
FROM n
CROSS JOIN clock
WHERE n.id IN (SELECT t.job_id FROM taken AS t)
RETURNING id::text, created_at, run_at
