-- enqueue: free keys whose hold by a final job has run out, so that the next try can take them.
-- $1 now or null  $2 tenants  $3 queues  $4 keys. Rows: none.
-- Indexes: job_key_pkey.
DELETE FROM goqueue.job_key AS k
USING unnest($2::text[], $3::text[], $4::bytea[]) AS w(tenant, queue, key)
WHERE k.tenant = w.tenant AND k.queue = w.queue AND k.key = w.key
  AND k.until <= (SELECT coalesce($1::timestamptz, clock_timestamp()))
