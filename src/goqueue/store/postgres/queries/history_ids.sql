-- enqueue (blind retry): which of these ids are history already.
-- $1 ids  $2 earliest day on which any of them can expire. Rows: id.
-- Indexes: job_history_pkey.
SELECT h.id::text FROM goqueue.job_history AS h WHERE h.id = ANY ($1::uuid[]) AND h.expires_on >= $2::date
