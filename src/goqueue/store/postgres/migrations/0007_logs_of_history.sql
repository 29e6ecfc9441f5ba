-- What handlers have logged, of final jobs: 0009 adds it to live ones. A migration of its own, so that no transaction waits
-- for a lock on one of the two tables while it holds one on the other: settles need both.

ALTER TABLE goqueue.job_history ADD COLUMN logs jsonb;
