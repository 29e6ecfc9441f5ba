"""`goqueue dev`: everything in one terminal, with a PostgreSQL of its own."""
