-- How long the statements that follow in this transaction wait for a lock.
-- $1 a duration with its unit, as text. Rows: none of interest.
SELECT pg_catalog.set_config('lock_timeout', $1::text, true)
