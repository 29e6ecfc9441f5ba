"""All cases as one class to inherit."""

from __future__ import annotations

import pytest

from goqueue.store.conformance.admin import AdminCases
from goqueue.store.conformance.changes import ChangeCases
from goqueue.store.conformance.claiming import ClaimCases
from goqueue.store.conformance.enqueueing import EnqueueCases
from goqueue.store.conformance.keys import KeyCases
from goqueue.store.conformance.leases import LeaseCases
from goqueue.store.conformance.queries import QueryCases
from goqueue.store.conformance.retention import RetentionCases
from goqueue.store.conformance.settling import SettleCases
from goqueue.store.conformance.sweeping import SweepCases


@pytest.mark.asyncio
class StoreCases(
    EnqueueCases,
    KeyCases,
    ClaimCases,
    SettleCases,
    LeaseCases,
    SweepCases,
    ChangeCases,
    QueryCases,
    RetentionCases,
    AdminCases,
):
    """Everything that a store must do. Needs a fixture ``harness``."""
