-- enqueue: insert jobs without unique keys whose ids are new to the store. An id that is there fails the statement (unique
-- violation of job_pkey): then enqueue.sql does it, which pays for looking first, and writes more WAL.
-- $1 to $16 as enqueue.sql
-- Rows: one of null, created_at of all; then id, created_at, run_at of each that is due later than now.
-- Indexes: job_ready.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
new AS (
    /*insert_jobs*/
    RETURNING id, run_at
)
SELECT
    NULL::text, now, now,
    (SELECT count(pg_catalog.pg_notify('goqueue', topic)) FROM unnest($16::text[]) AS topic)
FROM clock
UNION ALL
SELECT new.id::text, clock.now, new.run_at, 0 FROM new CROSS JOIN clock WHERE new.run_at > clock.now
