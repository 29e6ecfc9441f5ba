-- diagnose: the tables, columns and indexes that there are.
-- $1 limit. Rows: kind (table, column, index), its table, name (of a table: its own), whether it is usable.
-- Indexes: none.
(
    SELECT 'table', c.relname::text, c.relname::text, true
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'goqueue' AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'column', c.relname::text, a.attname::text, true
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
    WHERE n.nspname = 'goqueue' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'index', c.relname::text, i.relname::text, x.indisvalid AND x.indisready
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_index AS x ON x.indrelid = c.oid
    JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
    WHERE n.nspname = 'goqueue' AND (NOT c.relispartition OR NOT x.indisvalid)
)
ORDER BY 1, 2, 3
LIMIT $1::int4
