"""Opaque page tokens: where the last page ended, tied to the filter that it belongs to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid

import msgspec

from goqueue.model.errors import InvalidQuery
from goqueue.model.query import Filter

_POINTER = "/page_token"


def page_token(filter: Filter, before_id: str | None) -> str:
    """Return the token of the next page, "" when there is none."""
    if before_id is None:
        return ""
    return base64.urlsafe_b64encode(uuid.UUID(before_id).bytes + _digest(filter)).decode().rstrip("=")


def before_id(filter: Filter, token: str) -> str | None:
    """Return where the page of ``token`` starts. Raises `InvalidQuery` for one that we did not give for this filter."""
    if not token:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise InvalidQuery("is not a page token that this server gave", _POINTER) from None
    if len(raw) != 24:
        raise InvalidQuery("is not a page token that this server gave", _POINTER)
    if raw[16:] != _digest(filter):
        raise InvalidQuery("belongs to another filter: keep the filter while paging", _POINTER)
    return str(uuid.UUID(bytes=raw[:16]))


def _digest(filter: Filter) -> bytes:
    return hashlib.sha256(msgspec.json.encode(filter, order="deterministic")).digest()[:8]
