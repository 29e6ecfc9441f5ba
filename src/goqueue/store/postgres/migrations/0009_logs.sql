-- What a job's handlers have logged, beside its progress. Without a default no row is touched: the table is locked for an
-- instant. Jobs whose handlers log nothing pay nothing: it is null.

ALTER TABLE goqueue.job ADD COLUMN logs jsonb;

COMMENT ON COLUMN goqueue.job.logs IS 'what its handlers have logged, oldest first: attempt, at, level, message; fence and n tell a repeated write';
