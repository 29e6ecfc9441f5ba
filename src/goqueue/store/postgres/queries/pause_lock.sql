-- pause: wait for claims in flight (each holds ROW SHARE on this table, by its turnstile) and hold new ones back until the
-- change is committed: so a pause is exact once it is answered. Readers, a backup among them, are not in the way.
-- No parameters. Rows: none.
LOCK TABLE goqueue.queue_pause IN EXCLUSIVE MODE
