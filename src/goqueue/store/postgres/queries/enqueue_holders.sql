-- enqueue: who holds these keys now. Asked with a fresh snapshot after enqueue_keyed met a holder.
-- $1 now or null  $2 tenants  $3 queues  $4 keys  $5 ids of the jobs that wanted them
-- Rows: ordinal (from 0), holder's id or null, whether that hold has run out, whether the wanting id exists in job.
-- Indexes: job_key_pkey, job_pkey.
SELECT
    (w.nth - 1)::int4, k.job_id::text,
    coalesce(k.until <= coalesce($1::timestamptz, clock_timestamp()), false),
    EXISTS (SELECT FROM goqueue.job AS j WHERE j.id = w.id)
FROM unnest($2::text[], $3::text[], $4::bytea[], $5::uuid[]) WITH ORDINALITY AS w(tenant, queue, key, id, nth)
LEFT JOIN goqueue.job_key AS k ON k.tenant = w.tenant AND k.queue = w.queue AND k.key = w.key
