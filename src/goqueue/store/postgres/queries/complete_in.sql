-- complete in a caller's transaction, on any driver: one parameter, as text.
-- $1 a JSON object: job_id, fence, result (left out: none), retention_s (null: for ever),
-- progress and logs (left out: no news). Rows: one: applied or already.
-- Indexes: job_pkey, job_history_pkey, job_key_pkey.
SELECT goqueue.complete_v1(
    (c.one ->> 'job_id')::uuid, (c.one ->> 'fence')::int8, c.one -> 'result', (c.one ->> 'retention_s')::float8,
    progress => c.one -> 'progress', logs => c.one -> 'logs')
FROM (SELECT CAST($1 AS text)::json AS one) AS c
