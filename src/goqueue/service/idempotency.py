"""``Idempotency-Key``: the same request twice has the effect, and gets the answer, of once. Also across a crash.

In three steps, each of which survives on its own:

1. a record {fingerprint of the request, ids made for its jobs} is written, if there is none;
2. the jobs are stored under these ids, as one stores what may be stored already;
3. the answer is written into the record, if nobody else has done so.

A server that dies after 1 or 2 leaves a record without an answer: whoever asks again does 2 with the same ids, which
stores nothing twice, and 3. Two that do so at once agree on the answer that was written first.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from goqueue.model.errors import IdempotencyMismatch, Unavailable
from goqueue.tasks.prepare import new_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from goqueue.model.admin import Record
    from goqueue.store.port import AdminStore

_WRITES_MAX = 5
"""Lost races for one record before we say that it is busy; each loss means that another request got on."""


class Answer(msgspec.Struct, frozen=True):
    """What a request was answered: enough to say it again byte for byte."""

    status: int
    body: bytes


class Produced(msgspec.Struct, frozen=True):
    """A fresh answer. ``settled=False`` asks not to keep it: another try may do better (a key that was busy)."""

    answer: Answer
    settled: bool = True


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    fingerprint: bytes
    ids: tuple[str, ...]
    answer: Answer | None = None


_decoder = msgspec.msgpack.Decoder(_Kept)
_encoder = msgspec.msgpack.Encoder()


class Idempotency:
    """Remembers requests by key for ``ttl_s`` seconds. Keys are scoped to tenant and route."""

    def __init__(self, store: AdminStore, *, ttl_s: float) -> None:
        self._store = store
        self._ttl_s = ttl_s

    async def once(
        self,
        scope: tuple[str, str],
        key: str,
        request: bytes,
        jobs: int,
        produce: Callable[[Sequence[str]], Awaitable[Produced]],
    ) -> tuple[Answer, bool]:
        """Return the answer to this request, and whether it is a replay.

        ``scope`` is (tenant, route); ``request`` is the body; ``produce`` gets ``jobs`` ids and does the work, and may
        be called again with the same ids. Raises `IdempotencyMismatch` when the key belongs to another request; what
        ``produce`` raises is passed on and not kept.
        """
        name = f"idempotency/{scope[0]}/{scope[1]}/{hashlib.sha256(key.encode()).hexdigest()}"
        fingerprint = hashlib.sha256(request).digest()
        record, replay = await self._claim(name, fingerprint, jobs)
        kept = _decoder.decode(record.value)
        if kept.fingerprint != fingerprint:
            raise IdempotencyMismatch("this Idempotency-Key was used before with another body; use a new key")
        if kept.answer is not None:
            return kept.answer, True
        produced = await produce(kept.ids)
        if not produced.settled:
            return produced.answer, replay
        value = _encoder.encode(_Kept(fingerprint, kept.ids, produced.answer))
        if await self._store.write(name, value, record.version, self._ttl_s) is not None:
            return produced.answer, replay
        return await self._first_answer(name, fingerprint)

    async def _claim(self, name: str, fingerprint: bytes, jobs: int) -> tuple[Record, bool]:
        """Step 1: write the record, or find the one that is there."""
        pending = _encoder.encode(_Kept(fingerprint, tuple(new_id() for _ in range(jobs))))
        for _ in range(_WRITES_MAX):
            if (mine := await self._store.write(name, pending, 0, self._ttl_s)) is not None:
                return mine, False
            if (theirs := await self._store.read(name)) is not None:
                return theirs, True
            # It expired between the two: the next write finds the name free.
        raise Unavailable("this Idempotency-Key is in use by several requests; try again")

    async def _first_answer(self, name: str, fingerprint: bytes) -> tuple[Answer, bool]:
        """Step 3 was won by another request: its answer is the answer."""
        record = await self._store.read(name)
        if record is not None:
            kept = _decoder.decode(record.value)
            if kept.fingerprint == fingerprint and kept.answer is not None:
                return kept.answer, True
        raise Unavailable("the record of this Idempotency-Key has just expired; try again")
