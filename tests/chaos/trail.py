"""The trail: every version of every job and worker row, kept by triggers that only the harness installs.

It is independent of GoQueue's own SQL: whatever statement changes a row, and whoever sends it, the trail has it, in the
same transaction. Rows of one job are locked while they change, so ``seq`` is in their order. Read by plain SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

import psycopg

Row = dict[str, object]

INSTALL: LiteralString = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.trail (
    seq bigserial PRIMARY KEY,
    at timestamptz NOT NULL,
    txid text NOT NULL,
    place text NOT NULL,
    id uuid NOT NULL,
    before jsonb,
    after jsonb
);
CREATE INDEX ON chaos.trail (id);
CREATE FUNCTION chaos.keep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    -- An update that changed nothing is none. What is large is kept once, when the row is new.
    IF TG_OP = 'UPDATE' AND to_jsonb(OLD) = to_jsonb(NEW) THEN
        RETURN NULL;
    END IF;
    INSERT INTO chaos.trail (at, txid, place, id, before, after)
    VALUES (
        clock_timestamp(), pg_current_xact_id()::text, TG_ARGV[0],
        CASE WHEN TG_OP = 'DELETE' THEN OLD.id ELSE NEW.id END,
        CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - '{args,meta,errors}'::text[] END,
        CASE WHEN TG_OP = 'INSERT' THEN to_jsonb(NEW) - '{errors}'::text[]
             WHEN TG_OP = 'UPDATE' THEN to_jsonb(NEW) - '{args,meta,errors}'::text[] END);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_trail AFTER INSERT OR UPDATE OR DELETE ON goqueue.job
    FOR EACH ROW EXECUTE FUNCTION chaos.keep('job');
CREATE TRIGGER chaos_trail AFTER INSERT OR UPDATE OR DELETE ON goqueue.job_history
    FOR EACH ROW EXECUTE FUNCTION chaos.keep('history');
CREATE TRIGGER chaos_trail AFTER INSERT OR UPDATE OR DELETE ON goqueue.worker
    FOR EACH ROW EXECUTE FUNCTION chaos.keep('worker');
"""

READ: LiteralString = "SELECT seq, at, txid, place, id::text, before, after FROM chaos.trail ORDER BY seq"
READ_ONE: LiteralString = """
SELECT seq, at, txid, place, id::text, before, after FROM chaos.trail WHERE id = %s AND place <> 'worker' ORDER BY seq
"""
LIVE: LiteralString = "SELECT to_jsonb(j) - '{args,meta}'::text[] FROM goqueue.job AS j"
FINAL: LiteralString = "SELECT to_jsonb(h) - '{args,meta}'::text[] FROM goqueue.job_history AS h"
KEYS: LiteralString = "SELECT to_jsonb(k) FROM goqueue.job_key AS k"


@dataclass(frozen=True)
class Step:
    """One change of one row. ``place`` is job, history or worker; ``before`` or ``after`` is None where it was not."""

    seq: int
    at: datetime
    txid: str
    place: str
    id: str
    before: Row | None
    after: Row | None


@dataclass(frozen=True)
class Picture:
    """What the store says, all of one instant: the trail, the rows that are there, and who holds unique keys."""

    steps: Sequence[Step] = ()
    live: Sequence[Row] = ()
    final: Sequence[Row] = ()
    keys: Sequence[Row] = ()


def install(url: str) -> None:
    """Begin the trail. Once for a database, before anything that counts."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(INSTALL)


def look(url: str) -> Picture:
    """Read everything, as of one instant."""
    with psycopg.connect(url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return Picture(
            steps=[Step(*row) for row in connection.execute(READ)],
            live=[row[0] for row in connection.execute(LIVE)],
            final=[row[0] for row in connection.execute(FINAL)],
            keys=[row[0] for row in connection.execute(KEYS)],
        )
