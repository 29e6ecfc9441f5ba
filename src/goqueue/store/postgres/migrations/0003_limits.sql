-- Limits in time that a job brings along: its own retry delays, the latest start of an attempt, the end of it all.
-- Columns without a default are added without touching a row: the table is locked for an instant.

ALTER TABLE goqueue.job
    ADD COLUMN retry json,
    ADD COLUMN schedule_to_start_s double precision,
    ADD COLUMN deadline_at timestamptz,
    ADD COLUMN expire_at timestamptz,
    ADD COLUMN first_attempted_at timestamptz;

COMMENT ON COLUMN goqueue.job.flags IS '1 has a unique key, 2 has children, 4 has a limit; 8, 16, 32: its key is also held while it is completed, cancelled, dead; 64 has limits in time or retry delays of its own; 128 holds its key only until it is started';
COMMENT ON COLUMN goqueue.job.expire_at IS 'when it is dead unless it has been started: the earlier of deadline_at and run_at + schedule_to_start_s';
COMMENT ON COLUMN goqueue.job.first_attempted_at IS 'claim of the first attempt, if that is not attempted_at; infinity: retried by hand, the next attempt is the first';

-- Called by claims for jobs with flag 128 only. Written into the claim, it would cost every claim of a lone job 20 us.
CREATE FUNCTION goqueue.free_key(text, text, bytea, uuid) RETURNS boolean LANGUAGE sql AS $$
    WITH freed AS (
        DELETE FROM goqueue.job_key AS k
        WHERE k.tenant = $1 AND k.queue = $2 AND k.key = $3 AND k.job_id = $4
        RETURNING 1
    )
    SELECT EXISTS (SELECT FROM freed)
$$;
COMMENT ON FUNCTION goqueue.free_key IS 'Frees the unique key of a job, if it holds it; true if it did.';

-- Roles that may replace a waiting job (goqueue db grant ROLE --access enqueuer) may replace its limits, too.
DO $$
DECLARE
    role text;
BEGIN
    FOR role IN
        SELECT DISTINCT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END
        FROM pg_catalog.pg_attribute AS a
        CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) AS acl
        WHERE a.attrelid = 'goqueue.job'::regclass AND a.attname = 'run_at' AND acl.privilege_type = 'UPDATE'
    LOOP
        EXECUTE 'GRANT UPDATE (flags, retry, schedule_to_start_s, deadline_at, expire_at) ON goqueue.job TO ' || role;
    END LOOP;
END
$$;
