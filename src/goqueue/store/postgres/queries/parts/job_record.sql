-- The columns of a JobRecord, in the order in which rows.py reads them; j is job or job_history.
j.id::text, j.kind, j.args, j.queue, j.priority, j.state, j.attempt, j.max_attempts, j.crashes, j.max_crashes, j.run_at,
j.created_at, j.attempted_at, j.timeout_s, j.tags, j.meta, j.unique_key, j.errors::text, j.progress, j.cancel_requested_at,
j.worker_id::text, j.tenant, j.retry, j.schedule_to_start_s, j.deadline_at, j.logs::text
