-- enqueue_by: is this lease valid? Locks its row until the end of the transaction, so that the jobs of the handler
-- and the fate of the lease are decided in one order.
-- $1 now or null  $2 job id  $3 fence. Rows: one if the lease is valid.
-- Indexes: job_pkey, worker_pkey.
SELECT 1
FROM goqueue.job AS j
JOIN goqueue.worker AS w ON w.id = j.worker_id
WHERE j.id = $2::uuid AND j.fence = $3::int8 AND j.state + 0 = 1
  AND w.expires_at > (SELECT coalesce($1::timestamptz, clock_timestamp()))
FOR NO KEY UPDATE OF j
