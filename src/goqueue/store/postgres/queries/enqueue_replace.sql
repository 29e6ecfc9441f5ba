-- enqueue: give a holder that has not started the arguments, options and run_at of a newer job (on_conflict = replace).
-- $1 now or null  $2 holder's id  $3 key  $4 run_at or null  $5 delay in seconds  $6 priority  $7 kind  $8 args
-- $9 max_attempts  $10 max_crashes  $11 timeout or null  $12 tags or null  $13 meta or null  $14 group key
-- Rows: its id, if it was waiting and nobody had it locked.
-- Indexes: job_pkey.
WITH held AS MATERIALIZED (
    SELECT j.ctid AS tid, 1 AS one
    FROM goqueue.job AS j
    WHERE j.id = $2::uuid AND j.key = $3::bytea AND j.state + 0 IN (0, 2)
    FOR UPDATE SKIP LOCKED
)
UPDATE goqueue.job AS j
SET run_at = greatest(clock.now, coalesce($4::timestamptz, clock.now + make_interval(secs => $5::float8))),
    priority = $6::int2, kind = $7::text, args = $8::text::json, max_attempts = greatest($9::int4, j.attempt + 1),
    max_crashes = $10::int4, timeout_s = $11::float8, tags = $12::text::text[], meta = $13::text::json, group_key = $14::text
FROM held, (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now OFFSET 0) AS clock
WHERE j.ctid = held.tid AND held.one = 1
RETURNING j.id::text
