-- The first schema: jobs that are not final, their history, unique keys, workers and upkeep.
-- `job` holds only what is not final, so that its indexes stay as small as the work in hand.

CREATE TABLE goqueue.job (
    id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    run_at timestamptz NOT NULL,
    attempted_at timestamptz,
    cancel_requested_at timestamptz,
    fence bigint NOT NULL DEFAULT 0,
    timeout_s double precision,
    attempt integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 20,
    crashes integer NOT NULL DEFAULT 0,
    max_crashes integer NOT NULL DEFAULT 3,
    state smallint NOT NULL DEFAULT 0,
    priority smallint NOT NULL DEFAULT 5,
    flags smallint NOT NULL DEFAULT 0,
    worker_id uuid,
    tenant text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    group_key text COLLATE "C" NOT NULL DEFAULT '',
    kind text COLLATE "C" NOT NULL,
    args json NOT NULL,
    tags text[],
    meta json,
    errors jsonb,
    progress json,
    unique_key text COLLATE "C",
    key bytea,
    key_window_s double precision,
    CONSTRAINT job_pkey PRIMARY KEY (id)
) WITH (
    -- Truncation takes an exclusive lock, and an empty file misleads the planner.
    vacuum_truncate = off,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE goqueue.job IS 'Jobs that are not final. Change them through goqueue only: every write is fenced.';
COMMENT ON COLUMN goqueue.job.state IS '0 waiting (scheduled, ready, retrying by run_at and attempt), 1 running, 2 blocked';
COMMENT ON COLUMN goqueue.job.flags IS '1 has a unique key, 2 has children, 4 has a limit; 8, 16, 32: its key is also held while it is completed, cancelled, dead';
COMMENT ON COLUMN goqueue.job.fence IS 'claims + sweeps; never lowered';

CREATE INDEX job_ready ON goqueue.job (tenant, queue, priority, group_key, run_at, id) WHERE state = 0;
CREATE INDEX job_running ON goqueue.job (worker_id) WHERE state = 1;

CREATE TABLE goqueue.job_history (
    LIKE goqueue.job,
    finished_at timestamptz NOT NULL,
    expires_on date NOT NULL,
    result json,
    reason text,
    CONSTRAINT job_history_pkey PRIMARY KEY (id, expires_on)
) PARTITION BY RANGE (expires_on);
COMMENT ON TABLE goqueue.job_history IS 'Final jobs (state 3 completed, 4 cancelled, 5 dead), by the day on which they may be dropped.';
CREATE INDEX job_history_failed ON goqueue.job_history (id) WHERE state >= 4;
CREATE TABLE goqueue.job_history_forever PARTITION OF goqueue.job_history FOR VALUES FROM ('9000-01-01') TO (MAXVALUE);

CREATE TABLE goqueue.job_key (
    tenant text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    key bytea NOT NULL CONSTRAINT job_key_length CHECK (octet_length(key) = 32),
    job_id uuid NOT NULL,
    until timestamptz,
    CONSTRAINT job_key_pkey PRIMARY KEY (tenant, queue, key)
);
COMMENT ON TABLE goqueue.job_key IS 'Who holds a unique key. until: when the hold of a final job ends.';

CREATE TABLE goqueue.queue_pause (
    tenant text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    paused_at timestamptz NOT NULL,
    CONSTRAINT queue_pause_pkey PRIMARY KEY (tenant, queue)
);

CREATE TABLE goqueue.worker (
    id uuid NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    started_at timestamptz NOT NULL,
    beat_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    pid integer NOT NULL,
    concurrency integer NOT NULL,
    running integer NOT NULL,
    idle boolean NOT NULL,
    draining boolean NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    version text NOT NULL,
    queues text[] NOT NULL,
    kinds text[] NOT NULL,
    CONSTRAINT worker_pkey PRIMARY KEY (id)
) WITH (fillfactor = 50);

CREATE TABLE goqueue.leader (
    name text COLLATE "C" NOT NULL,
    holder text NOT NULL,
    term bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT leader_pkey PRIMARY KEY (name)
) WITH (fillfactor = 50);

CREATE TABLE goqueue.record (
    name text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    version bigint NOT NULL,
    expires_at timestamptz,
    CONSTRAINT record_pkey PRIMARY KEY (name)
);
CREATE INDEX record_expires ON goqueue.record (expires_at) WHERE expires_at IS NOT NULL;
