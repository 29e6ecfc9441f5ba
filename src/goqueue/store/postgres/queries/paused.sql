-- paused: the names of paused queues.
-- $1 tenant. Rows: queue.
-- Indexes: queue_pause_pkey.
SELECT queue FROM goqueue.queue_pause WHERE tenant = $1::text ORDER BY queue
