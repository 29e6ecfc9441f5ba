-- enqueue (on_conflict = replace): does a holder that could not be renewed still wait? Rests a moment if it does.
-- $1 holder's id  $2 key  $3 seconds to rest. Rows: one if it waits and has its key.
-- Indexes: job_pkey, job_key_pkey.
SELECT pg_catalog.pg_sleep($3::float8)::text
FROM goqueue.job AS j
JOIN goqueue.job_key AS k ON k.tenant = j.tenant AND k.queue = j.queue AND k.key = j.key AND k.job_id = j.id
WHERE j.id = $1::uuid AND j.key = $2::bytea AND j.state + 0 IN (0, 2)
