-- pause: note that a queue is paused.
-- $1 now or null  $2 tenant  $3 queue. Rows: none.
-- Indexes: queue_pause_pkey (conflict).
INSERT INTO goqueue.queue_pause (tenant, queue, paused_at)
VALUES ($2::text, $3::text, coalesce($1::timestamptz, clock_timestamp())) ON CONFLICT DO NOTHING
