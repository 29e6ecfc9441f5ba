-- sweep: drop records and holds of unique keys whose time has passed.
-- $1 now or null  $2 limit  $3 to $5 the term: election (null: none), holder, number
-- Rows: one: how many of both went, and whether the term is the present one.
-- Indexes: record_expires, job_key_until.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
term AS MATERIALIZED (SELECT true /*term $1 $3 $4 $5*/ AS present),
r AS (
    DELETE FROM goqueue.record WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM goqueue.record
        WHERE expires_at <= (SELECT now FROM clock) AND (SELECT present FROM term) LIMIT $2::int4 FOR UPDATE SKIP LOCKED))
    RETURNING 1
),
k AS (
    DELETE FROM goqueue.job_key WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM goqueue.job_key
        WHERE until <= (SELECT now FROM clock) AND (SELECT present FROM term) LIMIT $2::int4 FOR UPDATE SKIP LOCKED))
    RETURNING 1
)
SELECT (SELECT count(*) FROM r)::int4 + (SELECT count(*) FROM k)::int4, (SELECT present FROM term)
