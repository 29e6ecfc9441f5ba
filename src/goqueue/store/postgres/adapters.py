"""How values cross the wire on connections of ours: packed arrays in, JSON out as bytes."""

from __future__ import annotations

from functools import cache

import psycopg
from psycopg.adapt import AdaptersMap
from psycopg.types.string import ByteaBinaryLoader

from goqueue.store.postgres import pack


class Context:
    """An adaptation context without a connection."""

    def __init__(self, adapters: AdaptersMap) -> None:
        self.adapters = adapters
        self.connection = None


@cache
def adapters() -> Context:
    """Return the adapters of our connections. JSON is not parsed here: handlers decode straight into their types."""
    known = AdaptersMap(psycopg.adapters)
    teach(known)
    return Context(known)


def teach(known: AdaptersMap) -> None:
    """Teach adapters (of a connection of ours, or of one cursor on a caller's) our types."""
    pack.register(known)
    known.register_loader("json", ByteaBinaryLoader)
