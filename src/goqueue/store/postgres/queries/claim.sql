-- claim: settle a mixed batch of outcomes, then claim due jobs: one statement, one trip, one commit.
-- $1 to $9 as parts/claim.sql, $10 to $20 as $1 to $11 of parts/settle.sql
-- Rows: at least one. `missed` (parts/missed.sql) is on each; the lease columns are null if nothing was claimed.
-- It fails with a unique violation if an id that ends is history already: settle.sql can take that, and costs more.
-- Indexes: job_key_pkey, and those of parts/settle.sql and parts/claim.sql.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
/*settle $10 $11 $12 $13 $14 $15 $16 $17 $18 $19 $20*/
kept AS (
    /*keep*/
),
/*freed*/
/*claim*/
SELECT
    m.missed, l.id, l.lane, l.fence, l.attempt, l.max_attempts, l.crashes, l.timeout_s, l.created_at, l.run_at, l.kind,
    l.args, l.tags, l.meta, l.attempted_at, l.rare
FROM (
    SELECT CASE
        -- Never so, but asked first: it picks jobs before anything is settled. Between the snapshot and a pick another claim
        -- may commit; its jobs would be locked here for nothing, and their settle would find them busy.
        WHEN (SELECT count(*) FROM pick) < 0 THEN NULL
        ELSE true /*missed $10*/
    END AS missed
) AS m
LEFT JOIN lease AS l ON true
