"""All cases as one class to inherit."""

from __future__ import annotations

import pytest

from goqueue.store.conformance.admin import AdminCases
from goqueue.store.conformance.changes import ChangeCases
from goqueue.store.conformance.claiming import ClaimCases
from goqueue.store.conformance.crashing import CrashCases
from goqueue.store.conformance.diagnosing import DiagnosisCases
from goqueue.store.conformance.enqueueing import EnqueueCases
from goqueue.store.conformance.expiring import ExpiryCases
from goqueue.store.conformance.extremes import ExtremeCases
from goqueue.store.conformance.key_ends import KeyEndCases
from goqueue.store.conformance.keys import KeyCases
from goqueue.store.conformance.laws import LawCases
from goqueue.store.conformance.leases import LeaseCases
from goqueue.store.conformance.noting import NoteCases
from goqueue.store.conformance.queries import QueryCases
from goqueue.store.conformance.retention import RetentionCases
from goqueue.store.conformance.retrying import RetryCases
from goqueue.store.conformance.settling import SettleCases
from goqueue.store.conformance.starting import StartCases
from goqueue.store.conformance.sweeping import SweepCases
from goqueue.store.conformance.terms import TermCases


@pytest.mark.asyncio
class StoreCases(
    EnqueueCases,
    KeyCases,
    KeyEndCases,
    StartCases,
    ClaimCases,
    SettleCases,
    CrashCases,
    ExpiryCases,
    ExtremeCases,
    LawCases,
    LeaseCases,
    NoteCases,
    SweepCases,
    TermCases,
    ChangeCases,
    RetryCases,
    QueryCases,
    RetentionCases,
    AdminCases,
    DiagnosisCases,
):
    """Everything that a store must do. Needs a fixture ``harness``."""
