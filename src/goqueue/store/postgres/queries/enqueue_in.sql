-- enqueue in a caller's transaction on a driver that is not ours: one parameter, as text, and plain types back.
-- $1 jobs (JSON). Rows: id, status, created_at and run_at in microseconds since 1970 or null; in the order of the jobs.
-- Indexes: job_pkey, job_key_pkey, job_history_pkey.
SELECT
    e.id::text, e.status, (extract(epoch FROM e.created_at) * 1000000)::int8, (extract(epoch FROM e.run_at) * 1000000)::int8
FROM goqueue.enqueue_many_v1(CAST($1 AS text)::json) WITH ORDINALITY AS e
ORDER BY e.ordinality
