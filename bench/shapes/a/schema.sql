-- Shape A: one table; final rows are updated in place and pruned later in bulk.
DROP SCHEMA IF EXISTS goqueue CASCADE;
CREATE SCHEMA goqueue;

CREATE TABLE goqueue.worker (
    id uuid PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

CREATE TABLE goqueue.job (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempted_at timestamptz,
    cancel_requested_at timestamptz,
    fence bigint NOT NULL DEFAULT 0,
    timeout_s double precision,
    attempt integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 20,
    state smallint NOT NULL DEFAULT 0,
    priority smallint NOT NULL DEFAULT 5,
    crashes smallint NOT NULL DEFAULT 0,
    max_crashes smallint NOT NULL DEFAULT 3,
    flags smallint NOT NULL DEFAULT 0,
    worker_id uuid,
    tenant text COLLATE "C" NOT NULL DEFAULT 'default',
    queue text COLLATE "C" NOT NULL DEFAULT 'default',
    group_key text COLLATE "C" NOT NULL DEFAULT '',
    kind text COLLATE "C" NOT NULL,
    args json NOT NULL,
    tags text[],
    meta json,
    errors json,
    progress json,
    unique_key text COLLATE "C",
    key bytea,
    finished_at timestamptz,
    result json
);

CREATE INDEX job_ready ON goqueue.job (tenant, queue, priority, group_key, run_at, id)
    WHERE state = 0;
CREATE INDEX job_running ON goqueue.job (worker_id) WHERE state = 1;

CREATE INDEX job_final ON goqueue.job (finished_at) WHERE state >= 2;
CREATE INDEX job_bad ON goqueue.job (tenant, queue, id) WHERE state IN (3, 4);
