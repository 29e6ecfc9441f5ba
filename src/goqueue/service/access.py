"""Who asks, and what they may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from goqueue.model.errors import PermissionDenied
from goqueue.model.job import DEFAULT_TENANT


class Scope(StrEnum):
    """What an API key can be good for."""

    ENQUEUE = "enqueue"
    WORK = "work"
    READ = "read"
    ADMIN = "admin"


class Caller(msgspec.Struct, frozen=True):
    """An authenticated caller: it acts for one tenant, within its scopes."""

    tenant: str
    scopes: frozenset[Scope]
    name: str = ""

    def require(self, scope: Scope) -> None:
        """Raise `PermissionDenied` unless the caller has ``scope``."""
        if scope not in self.scopes:
            raise PermissionDenied(f"this API key lacks the scope {scope.value!r}")


LOCAL_OPERATOR: Final = Caller(DEFAULT_TENANT, frozenset(Scope), "local")
"""Whoever can reach a server that is open on loopback: the default tenant, every scope."""
