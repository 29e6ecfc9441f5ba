-- The first day on which a job that becomes final now may be dropped; infinity: never; null: it is not kept at all.
-- Needs clock and what parts/retention_s.sql needs, also its parameters. (The second look is only for jobs that are kept
-- for ever, or not at all.)
coalesce(
    (((SELECT now FROM clock) + make_interval(secs => nullif(true /*retention_s $1 $2*/, 0))) AT TIME ZONE 'UTC')::date + 1,
    CASE WHEN true /*retention_s $1 $2*/ IS NULL THEN 'infinity'::date END)
