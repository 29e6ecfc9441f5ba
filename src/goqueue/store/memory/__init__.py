"""The executable model of a store: plain dicts under one lock. The oracle of the property tests.

It follows `goqueue.model.state.TRANSITIONS` row by row and is as plain as it can be: where another store differs,
the conformance suite says which of the two is wrong. It keeps nothing on disk and is seen by one process only, which
`Capabilities` says; nothing about it is meant for production.
"""

from goqueue.store.memory.clock import Clock
from goqueue.store.memory.core import Memory
from goqueue.store.memory.store import MemoryStore
from goqueue.store.memory.sync import SyncMemoryStore

__all__ = ["Clock", "Memory", "MemoryStore", "SyncMemoryStore"]
