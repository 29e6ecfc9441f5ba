-- The first day on which a job that becomes final now may be dropped; infinity: never; null: it is not kept at all.
-- Needs what parts/retention_s.sql needs. (The second look at it is only for jobs that are kept for ever or not at all.)
coalesce(
    (((SELECT now FROM clock) + make_interval(secs => nullif(true /*retention_s*/, 0))) AT TIME ZONE 'UTC')::date + 1,
    CASE WHEN true /*retention_s*/ IS NULL THEN 'infinity'::date END)
