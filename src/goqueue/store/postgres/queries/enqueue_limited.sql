-- enqueue: insert jobs without unique keys that bring limits in time or retry delays of their own.
-- $1 to $15 as enqueue.sql  $16 retry delays (JSON) or null  $17 schedule_to_start_s or null  $18 deadline_s or null
-- Rows: id, created_at, run_at of each that was inserted; an id that exists in job is left out.
-- A statement of its own, so that plain jobs do not pay for what they do not use.
-- Indexes: job_pkey (conflict), job_ready, job_expire.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
n AS (
    SELECT n.*, greatest(clock.now, coalesce(n.start_at, clock.now + make_interval(secs => n.delay_s))) AS run_at,
        clock.now + make_interval(secs => n.deadline_s) AS deadline_at
    FROM unnest(
        $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::float8[], $8::int2[], $9::text[], $10::text[],
        $11::int4[], $12::int4[], $13::float8[], $14::text[], $15::text[], $16::text[], $17::float8[], $18::float8[])
        AS n(id, tenant, queue, group_key, start_at, delay_s, priority, kind, args, max_attempts, max_crashes, timeout_s, tags,
             meta, retry, schedule_to_start_s, deadline_s)
    CROSS JOIN clock
)
INSERT INTO goqueue.job (
    id, created_at, run_at, tenant, queue, group_key, priority, kind, args, max_attempts, max_crashes, timeout_s, tags, meta,
    flags, retry, schedule_to_start_s, deadline_at, expire_at)
SELECT
    n.id, clock.now, n.run_at, n.tenant, n.queue, n.group_key, n.priority, n.kind, n.args::json, n.max_attempts, n.max_crashes,
    n.timeout_s, n.tags::text[], n.meta::json, 64, n.retry::json, n.schedule_to_start_s, n.deadline_at,
    least(n.deadline_at, n.run_at + make_interval(secs => n.schedule_to_start_s))
FROM n
CROSS JOIN clock
ON CONFLICT (id) DO NOTHING
RETURNING id::text, created_at, run_at
