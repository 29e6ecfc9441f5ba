-- claim: claim due jobs when there is nothing to settle. Much less to set up than claim.sql, which a lone job waits for.
-- $1 to $9 as parts/claim.sql
-- Rows: as claim.sql, none if nothing was claimed.
-- Indexes: those of parts/claim.sql.
WITH clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now),
/*claim*/
SELECT
    NULL::int4[], l.id, l.lane, l.fence, l.attempt, l.max_attempts, l.crashes, l.timeout_s, l.created_at, l.run_at, l.kind,
    l.args, l.tags, l.meta, l.attempted_at, l.rare
FROM lease AS l
