-- pause: wait for claims in flight (each has read this table) and hold new ones back until the change is committed:
-- so a pause is exact once it is answered. Runs under a short lock_timeout: a backup also holds a lock on the table.
-- No parameters. Rows: none.
LOCK TABLE goqueue.queue_pause IN ACCESS EXCLUSIVE MODE
