"""What the bare loop and the raw limit share: one table with one index, and the statements on it."""

from __future__ import annotations

import asyncpg

from bench.sides.pooled import Pooled

DDL = """
CREATE TABLE bare_job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL DEFAULT 'default',
    state smallint NOT NULL DEFAULT 0,
    priority smallint NOT NULL DEFAULT 0,
    run_at timestamptz NOT NULL DEFAULT now(),
    attempt smallint NOT NULL DEFAULT 0,
    max_attempts smallint NOT NULL DEFAULT 20,
    kind text NOT NULL,
    args jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    locked_at timestamptz,
    locked_by text,
    finished_at timestamptz);
CREATE INDEX bare_job_ready ON bare_job (queue, priority, run_at, id) WHERE state = 0
"""
# Finish what was done, claim the next: one statement, one commit. $1 worker, $2 how many, $3 what was done.
TURN = """
WITH done AS (UPDATE bare_job SET state = 2, finished_at = now() WHERE id = ANY ($3::bigint[]))
UPDATE bare_job SET state = 1, attempt = attempt + 1, locked_at = now(), locked_by = $1
WHERE id = ANY (ARRAY(
    SELECT id FROM bare_job WHERE queue = 'default' AND state = 0 AND run_at <= now()
    ORDER BY priority, run_at, id LIMIT $2 FOR UPDATE SKIP LOCKED))
RETURNING id, kind, args, attempt, max_attempts, priority, run_at, created_at
"""
CHANNEL = "bare_job"


class BareTable(Pooled):
    """What both do as a `bench.sides.verbs.Side`, but enqueue."""

    async def install(self, url: str) -> None:
        """Make the table."""
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(DDL)
        finally:
            await connection.close()
