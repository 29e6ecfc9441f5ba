-- grant: is there such a role. $1 its name. Rows: one: true or false, and the name of the database.
SELECT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = $1::text), pg_catalog.current_database()::text
