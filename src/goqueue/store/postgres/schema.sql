-- The schema that the migrations lead to, read back from the catalogs. Generated: run `make generate` after a new migration.
-- It is here to be read; databases are made by `goqueue db migrate`.

CREATE SCHEMA goqueue;

CREATE TABLE goqueue.job (
    id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    run_at timestamp with time zone NOT NULL,
    attempted_at timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    fence bigint DEFAULT 0 NOT NULL,
    timeout_s double precision,
    attempt integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 20 NOT NULL,
    crashes integer DEFAULT 0 NOT NULL,
    max_crashes integer DEFAULT 3 NOT NULL,
    state smallint DEFAULT 0 NOT NULL,
    priority smallint DEFAULT 5 NOT NULL,
    flags smallint DEFAULT 0 NOT NULL,
    worker_id uuid,
    tenant text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    group_key text COLLATE "C" DEFAULT ''::text NOT NULL,
    kind text COLLATE "C" NOT NULL,
    args json NOT NULL,
    tags text[],
    meta json,
    errors jsonb,
    progress json,
    unique_key text COLLATE "C",
    key bytea,
    CONSTRAINT job_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_cost_delay=0, autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_threshold=1000, vacuum_truncate=off);

COMMENT ON COLUMN goqueue.job.fence IS 'claims + sweeps; never lowered';

COMMENT ON COLUMN goqueue.job.state IS '0 waiting (scheduled, ready, retrying by run_at and attempt), 1 running, 2 blocked';

COMMENT ON COLUMN goqueue.job.flags IS '1 has a unique key, 2 has children, 4 has a limit';

COMMENT ON TABLE goqueue.job IS 'Jobs that are not final. Change them through goqueue only: every write is fenced.';

CREATE INDEX job_ready ON goqueue.job USING btree (tenant, queue, priority, group_key, run_at, id) WHERE (state = 0);

CREATE INDEX job_running ON goqueue.job USING btree (worker_id) WHERE (state = 1);

CREATE TABLE goqueue.job_history (
    id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    run_at timestamp with time zone NOT NULL,
    attempted_at timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    fence bigint NOT NULL,
    timeout_s double precision,
    attempt integer NOT NULL,
    max_attempts integer NOT NULL,
    crashes integer NOT NULL,
    max_crashes integer NOT NULL,
    state smallint NOT NULL,
    priority smallint NOT NULL,
    flags smallint NOT NULL,
    worker_id uuid,
    tenant text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    group_key text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    args json NOT NULL,
    tags text[],
    meta json,
    errors jsonb,
    progress json,
    unique_key text COLLATE "C",
    key bytea,
    finished_at timestamp with time zone NOT NULL,
    expires_on date NOT NULL,
    result json,
    reason text,
    CONSTRAINT job_history_pkey PRIMARY KEY (id, expires_on)
) PARTITION BY RANGE (expires_on);

COMMENT ON TABLE goqueue.job_history IS 'Final jobs (state 3 completed, 4 cancelled, 5 dead), by the day on which they may be dropped.';

CREATE INDEX job_history_failed ON ONLY goqueue.job_history USING btree (id) WHERE (state >= 4);

CREATE TABLE goqueue.job_history_forever PARTITION OF goqueue.job_history FOR VALUES FROM ('9000-01-01') TO (MAXVALUE);

CREATE TABLE goqueue.job_key (
    tenant text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    job_id uuid NOT NULL,
    final_mask smallint DEFAULT 0 NOT NULL,
    window_s double precision,
    until timestamp with time zone,
    CONSTRAINT job_key_length CHECK ((octet_length(key) = 32)),
    CONSTRAINT job_key_pkey PRIMARY KEY (tenant, queue, key)
);

COMMENT ON TABLE goqueue.job_key IS 'Who holds a unique key. final_mask: bits of 1 << state that go on holding it; until: when such a hold ends.';

CREATE TABLE goqueue.leader (
    name text COLLATE "C" NOT NULL,
    holder text NOT NULL,
    term bigint NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT leader_pkey PRIMARY KEY (name)
) WITH (fillfactor=50);

CREATE TABLE goqueue.queue_pause (
    tenant text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    paused_at timestamp with time zone NOT NULL,
    CONSTRAINT queue_pause_pkey PRIMARY KEY (tenant, queue)
);

CREATE TABLE goqueue.record (
    name text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    version bigint NOT NULL,
    expires_at timestamp with time zone,
    CONSTRAINT record_pkey PRIMARY KEY (name)
);

CREATE INDEX record_expires ON goqueue.record USING btree (expires_at) WHERE (expires_at IS NOT NULL);

CREATE TABLE goqueue.schema_migration (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT schema_migration_pkey PRIMARY KEY (version)
);

CREATE TABLE goqueue.worker (
    id uuid NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    started_at timestamp with time zone NOT NULL,
    beat_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
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
) WITH (fillfactor=50);
