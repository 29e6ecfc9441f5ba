-- concurrently: job_key_until
-- Holds of unique keys that end, by when: upkeep frees the lapsed ones without reading all keys.

CREATE INDEX CONCURRENTLY job_key_until ON goqueue.job_key (until) WHERE until IS NOT NULL;
