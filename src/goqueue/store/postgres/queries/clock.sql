-- enqueue: the instant of a batch that takes more than one statement.
-- No parameters. Rows: one: the store's now.
SELECT clock_timestamp()
