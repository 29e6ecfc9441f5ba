-- diagnose: workers, what dead ones still hold, and who does the upkeep.
-- $1 now  $2 rows of running jobs to look at, at most. Rows: one: workers alive, expired ones, running jobs, running jobs
-- of expired workers, seconds since the first of these expired, running jobs without a worker row, versions of workers
-- alive, elections as (name, holder, seconds until they lapse), whether there are jobs at all.
-- Indexes: job_running.
WITH clock AS (
    SELECT coalesce($1::timestamptz, clock_timestamp()) AS now
), running AS MATERIALIZED (
    SELECT j.worker_id FROM goqueue.job AS j WHERE j.state = 1 LIMIT $2::int4
), held AS (
    SELECT
        count(*) AS jobs,
        count(*) FILTER (WHERE w.expires_at <= clock.now) AS orphans,
        extract(epoch FROM max(clock.now - w.expires_at) FILTER (WHERE w.expires_at <= clock.now))::float8 AS since_s,
        count(*) FILTER (WHERE w.id IS NULL) AS missing
    FROM clock CROSS JOIN running AS r LEFT JOIN goqueue.worker AS w ON w.id = r.worker_id
)
SELECT
    (SELECT count(*) FROM goqueue.worker AS w WHERE w.expires_at > clock.now),
    (SELECT count(*) FROM goqueue.worker AS w WHERE w.expires_at <= clock.now),
    held.jobs, held.orphans, held.since_s, held.missing,
    (SELECT coalesce(array_agg(DISTINCT w.version ORDER BY w.version), '{}') FROM goqueue.worker AS w WHERE w.expires_at > clock.now),
    (
        SELECT coalesce(json_agg(json_build_array(l.name, l.holder, extract(epoch FROM l.expires_at - clock.now)::float8) ORDER BY l.name), '[]')
        FROM goqueue.leader AS l
    )::text,
    EXISTS (SELECT FROM goqueue.job)
FROM clock CROSS JOIN held
