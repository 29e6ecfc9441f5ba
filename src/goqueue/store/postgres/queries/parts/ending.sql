-- RETURNING of a DELETE that ends jobs: the columns that stay as they were (see parts/finish.sql).
j.id, j.created_at, j.run_at, j.attempted_at, j.timeout_s, j.max_attempts, j.max_crashes, j.priority, j.flags, j.worker_id,
j.tenant, j.queue, j.group_key, j.kind, j.args, j.tags, j.meta, j.progress, j.unique_key, j.key, j.key_window_s, j.retry,
j.schedule_to_start_s, j.deadline_at, j.logs
