"""Who is asking: the seam for API keys, and what stands there while no key exists."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from goqueue.model.errors import ConfigurationError, PermissionDenied
from goqueue.service.access import LOCAL_OPERATOR, Caller

if TYPE_CHECKING:
    from collections.abc import Mapping


class Authenticator(Protocol):
    """Tells who sent a request."""

    async def authenticate(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Return the caller, or raise `Unauthenticated` or `PermissionDenied`. Names of headers are in lower case."""
        ...


class OpenOnLoopback:
    """Everyone who can reach loopback may do everything, except web pages.

    A page from elsewhere can make the browser of someone on this machine send requests here. It gives itself away: by
    a Host that is not a loopback name (DNS rebinding), or by an Origin that is not this server (cross-site request).
    """

    async def authenticate(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Return the local operator, or raise `PermissionDenied` for a request that a foreign page sent."""
        host = headers.get(b"host", b"")
        if host and not _is_loopback_host(host):
            raise PermissionDenied("this server has no API keys and is open on loopback only: address it as localhost")
        origin = headers.get(b"origin")
        if origin is not None and origin.partition(b"://")[2] != host:
            raise PermissionDenied("this server has no API keys and does not answer pages of other sites")
        return LOCAL_OPERATOR


def check_bind(host: str, *, keys_exist: bool = False) -> None:
    """Raise `ConfigurationError` when ``host`` can be reached from other machines and no API key exists."""
    if not keys_exist and not is_loopback(host):
        raise ConfigurationError(
            f"refusing to listen on {host!r} while no API key exists: anyone who can reach it could run jobs. "
            "Make a key first, or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Is ``host`` a name or address that only this machine can reach?"""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=256)
def _is_loopback_host(header: bytes) -> bool:
    """Judge a Host header: ``name``, ``name:port``, ``[::1]:port``."""
    host = header.decode("latin-1")
    if host.startswith("["):
        return is_loopback(host[1:].partition("]")[0])
    return is_loopback(host.partition(":")[0])
