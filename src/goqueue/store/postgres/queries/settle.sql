-- settle: settle a mixed batch of outcomes of which some id is history already (see claim.sql, which does all the others).
-- $1 now or null, $2 to $12 as $1 to $11 of parts/settle.sql
-- Rows: one, with `missed` (parts/missed.sql).
-- Indexes: job_key_pkey, job_history_pkey, and those of parts/settle.sql.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
/*settle $2 $3 $4 $5 $6 $7 $8 $9 $10 $11 $12*/
/*finish*/
written AS (SELECT true /*missed $2*/ AS missed)
SELECT written.missed FROM written
