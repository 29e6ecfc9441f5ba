-- Why a waiting job was put off (a snooze): until now nobody could see it. Without a default no row is touched: the table is
-- locked for an instant. Jobs that were never put off pay nothing: it is null.

ALTER TABLE goqueue.job ADD COLUMN reason text;

COMMENT ON COLUMN goqueue.job.reason IS 'why it was put off; of no meaning while it is running';

-- Roles that may replace a waiting job (goqueue db grant ROLE --access enqueuer) take the reason away with the rest.
DO $$
DECLARE
    role text;
BEGIN
    FOR role IN
        SELECT DISTINCT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END
        FROM pg_catalog.pg_attribute AS a
        CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) AS acl
        WHERE a.attrelid = 'goqueue.job'::regclass AND a.attname = 'expire_at' AND acl.privilege_type = 'UPDATE'
    LOOP
        EXECUTE 'GRANT UPDATE (reason) ON goqueue.job TO ' || role;
    END LOOP;
END
$$;
