-- pause (resume): forget that a queue is paused.
-- $1 tenant  $2 queue. Rows: none.
-- Indexes: queue_pause_pkey.
DELETE FROM goqueue.queue_pause WHERE tenant = $1::text AND queue = $2::text
