-- grant: the types of the schema that are not those of its tables, for a change of owner. No parameters. Rows: name.
SELECT c.relname::text
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'goqueue' AND c.relkind = 'c'
ORDER BY c.relname
