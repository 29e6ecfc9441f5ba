-- enqueue: insert jobs without unique keys in bulk.
-- $1 now or null  $2 ids  $3 tenants  $4 queues  $5 group keys  $6 run_at or null each  $7 delays in seconds
-- $8 priorities  $9 kinds  $10 args  $11 max_attempts  $12 max_crashes  $13 timeouts  $14 tags (array literals)  $15 meta
-- Rows: id, created_at, run_at of each that was inserted; an id that exists in job is left out.
-- Indexes: job_pkey (conflict), job_ready.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now)
INSERT INTO goqueue.job (
    id, created_at, run_at, tenant, queue, group_key, priority, kind, args, max_attempts, max_crashes, timeout_s, tags, meta)
SELECT
    n.id, clock.now,
    greatest(clock.now, coalesce(n.run_at, clock.now + make_interval(secs => n.delay_s))),
    n.tenant, n.queue, n.group_key, n.priority, n.kind, n.args::json, n.max_attempts, n.max_crashes, n.timeout_s,
    n.tags::text[], n.meta::json
FROM unnest(
    $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::float8[], $8::int2[], $9::text[], $10::text[],
    $11::int4[], $12::int4[], $13::float8[], $14::text[], $15::text[])
    AS n(id, tenant, queue, group_key, run_at, delay_s, priority, kind, args, max_attempts, max_crashes, timeout_s, tags, meta)
CROSS JOIN clock
ON CONFLICT (id) DO NOTHING
RETURNING id::text, created_at, run_at
