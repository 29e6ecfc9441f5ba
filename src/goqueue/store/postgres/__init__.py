"""The store on PostgreSQL."""

from goqueue.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
