-- history upkeep: tables that were marked to go, were detached, and are still there: what was to drop them has died.
-- $1 the mark  $2 only this one, or null. Rows: name. Never one that has a parent, that another role owns, or that
--   was detached without our mark: somebody may keep it.
-- Indexes: none.
SELECT c.relname::text
FROM pg_catalog.pg_class AS c
WHERE c.relnamespace = 'goqueue'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
  AND c.relname ~ '^job_history_[0-9]{8}$' AND ($2::text IS NULL OR c.relname = $2::text)
  AND pg_catalog.obj_description(c.oid, 'pg_class') = $1::text AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid OR i.inhparent = c.oid)
ORDER BY c.relname
