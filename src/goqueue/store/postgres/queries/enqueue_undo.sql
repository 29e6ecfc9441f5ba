-- enqueue: in a blind retry, take back what was inserted although the earlier try's job is history already.
-- Runs in the same READ COMMITTED transaction as the insert, with a fresh snapshot.
-- $1 ids that were inserted  $2 earliest day on which any of them can expire. Rows: ids that were taken back.
-- Indexes: job_history_pkey, job_pkey, job_key_pkey.
WITH gone AS (
    DELETE FROM goqueue.job AS j
    USING unnest($1::uuid[]) AS w(id)
    WHERE j.id = w.id
      AND EXISTS (SELECT FROM goqueue.job_history AS h WHERE h.id = w.id AND h.expires_on >= $2::date)
    RETURNING j.id, j.tenant, j.queue, j.key
),
freed AS (
    DELETE FROM goqueue.job_key AS k
    USING gone
    WHERE gone.key IS NOT NULL AND k.tenant = gone.tenant AND k.queue = gone.queue AND k.key = gone.key AND k.job_id = gone.id
)
SELECT id::text FROM gone
