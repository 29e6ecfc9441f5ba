-- The keys of jobs that have just become final are free, or held on for their window (or until the job leaves the history)
-- if the job asked for that in this state. Needs clock, and `gone` as parts/finish.sql says. Index: job_key_pkey.
freed AS (
    DELETE FROM goqueue.job_key AS k
    USING gone AS g
    WHERE g.flags & 1 = 1
      AND k.tenant = g.tenant AND k.queue = g.queue AND k.key = g.key AND k.job_id = g.id
      AND (g.flags & (1 << g.ended) = 0 OR g.expires_on IS NULL AND g.key_window_s IS NULL)
),
still AS (
    UPDATE goqueue.job_key AS k
    SET until = least(
        coalesce(clock.now + make_interval(secs => g.key_window_s), 'infinity'), g.expires_on::timestamp AT TIME ZONE 'UTC')
    FROM gone AS g, clock
    WHERE g.flags & 1 = 1
      AND k.tenant = g.tenant AND k.queue = g.queue AND k.key = g.key AND k.job_id = g.id
      AND g.flags & (1 << g.ended) <> 0 AND (g.expires_on IS NOT NULL OR g.key_window_s IS NOT NULL)
),
