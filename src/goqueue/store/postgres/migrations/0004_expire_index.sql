-- concurrently: job_expire
-- Jobs that are dead unless they are started in time, by when. Outside a transaction, so that nobody waits for it.

CREATE INDEX CONCURRENTLY job_expire ON goqueue.job (expire_at) WHERE expire_at IS NOT NULL AND state <> 1;
