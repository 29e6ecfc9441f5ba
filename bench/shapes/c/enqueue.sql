-- enqueue: insert jobs in bulk. One row per element; a null in $5 means "now".
-- $1 ids  $2 tenants  $3 queues  $4 group keys  $5 delays in seconds  $6 priorities
-- $7 kinds  $8 args  $9 max_attempts  $10 timeouts  $11 tags (array literals)  $12 meta
-- Indexes: primary keys, ready_ready.
WITH n AS MATERIALIZED (
    SELECT n.*
    FROM unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::int2[],
        $7::text[], $8::text[], $9::int4[], $10::float8[], $11::text[], $12::text[])
        AS n(id, tenant, queue, group_key, delay_s, priority, kind, args, max_attempts, timeout_s,
             tags, meta)
),
p AS (
    INSERT INTO goqueue.payload (id, kind, args, tags, meta)
    SELECT n.id, n.kind, n.args::json, n.tags::text[], n.meta::json FROM n
)
INSERT INTO goqueue.ready (
    id, tenant, queue, group_key, run_at, priority, max_attempts, timeout_s)
SELECT
    n.id, n.tenant, n.queue, n.group_key,
    clock_timestamp() + make_interval(secs => coalesce(n.delay_s, 0)),
    n.priority, n.max_attempts, n.timeout_s
FROM n
