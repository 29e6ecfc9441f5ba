-- enqueue: insert jobs without unique keys in bulk, of which some may be there already.
-- $1 now or null  $2 ids  $3 tenants  $4 queues  $5 group keys  $6 run_at or null each  $7 delays in seconds
-- $8 priorities  $9 kinds  $10 args  $11 max_attempts  $12 max_crashes  $13 timeouts  $14 tags (array literals)  $15 meta
-- $16 topics to notify with the commit
-- Rows: id, created_at, run_at of each that was inserted; an id that exists in job is left out.
-- Indexes: job_pkey (conflict), job_ready.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now)
/*insert_jobs*/
ON CONFLICT (id) DO NOTHING
RETURNING
    id::text, created_at, run_at,
    (SELECT count(pg_catalog.pg_notify('goqueue', topic)) FROM unnest($16::text[]) AS topic)
