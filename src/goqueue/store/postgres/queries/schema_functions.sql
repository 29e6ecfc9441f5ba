-- grant: the functions of the schema.
-- No parameters. Rows: name and its argument types, as ALTER FUNCTION takes them.
SELECT p.oid::regprocedure::text
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = 'goqueue' ORDER BY 1
