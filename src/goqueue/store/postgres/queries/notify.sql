-- notify: wake the workers of a queue.
-- $1 topic. Rows: none of interest.
SELECT pg_catalog.pg_notify('goqueue', $1::text)
