"""`AsyncJob`: a handle to a stored job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

from goqueue.client import results
from goqueue.model.state import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from goqueue.client._async.waiter import Ended
    from goqueue.model.job import JobRecord, JobRef
    from goqueue.model.query import ChangeStatus

R = TypeVar("R", covariant=True)


class JobsOf(Protocol):
    """What a handle needs of its client."""

    async def read(self, ref: JobRef) -> JobRecord:
        """Return a job's record."""
        ...

    async def cancel(self, id: str, *, reason: str = "") -> ChangeStatus:
        """Cancel a job."""
        ...

    async def retry(self, id: str, args: Mapping[str, object] | None = None) -> ChangeStatus:
        """Run a job again."""
        ...

    async def delete(self, id: str) -> None:
        """Delete a job."""
        ...

    async def result_of(self, ref: JobRef, returns: object, timeout_s: float | None, allow_in_handler: bool) -> object:
        """Wait for a job's result."""
        ...


class AsyncJob(Generic[R]):
    """A job that a client has stored or found. ``R`` is the type of its result. Made by clients only."""

    __slots__ = ("_client", "_ended", "_returns", "created_at", "deduplicated", "known", "ref", "run_at")

    def __init__(
        self,
        client: JobsOf,
        ref: JobRef,
        *,
        returns: object = None,
        deduplicated: bool = False,
        created_at: datetime | None = None,
        run_at: datetime | None = None,
        known: JobRecord | None = None,
    ) -> None:
        self._client = client
        self._returns = returns
        self._ended: Ended | None = None
        self.ref = ref
        self.deduplicated = deduplicated
        """Whether the enqueue stored nothing because this job holds the unique key already."""
        self.created_at = created_at
        """When it was stored, by the store's clock; None if this handle is not from the enqueue that did it."""
        self.run_at = run_at
        """When it was due first; None if this handle is not from the enqueue that stored it."""
        self.known = known
        """The record as `record`, ``get`` or ``find`` has read it last; None if none of them has. Costs no read."""

    @property
    def id(self) -> str:
        """The job's id, a UUIDv7."""
        return self.ref.id

    async def record(self) -> JobRecord:
        """Read all that is known of the job now. Raises `JobNotFound`."""
        self.known = await self._client.read(self.ref)
        self._ended = None  # somebody may have retried it since
        return self.known

    async def state(self) -> JobState:
        """Read the job's state now. Raises `JobNotFound`."""
        return (await self.record()).state

    async def result(self, timeout_s: float | None = None, *, allow_in_handler: bool = False) -> R:
        """Wait until the job is final and return its result, at most ``timeout_s`` seconds; None waits without a limit.

        Raises `JobFailed` (with the errors of its attempts), `JobCancelled`, `ResultTimeout`, `ResultGone`, and
        `WouldDeadlock` inside a handler: all slots may be taken by handlers that wait. ``allow_in_handler=True`` says
        that the other job cannot be in need of this one's slot. A handle that ``as_completed`` has yielded knows the
        answer.
        """
        if self._ended is not None:
            return cast("R", results.result_of(self._ended, self._returns))
        value = await self._client.result_of(self.ref, self._returns, timeout_s, allow_in_handler)
        return cast("R", value)  # it was decoded to the type that R stands for

    def note_end(self, ended: Ended) -> None:
        """Note how the job has ended. For the client, when it has waited for many."""
        self._ended = ended
        if not isinstance(ended, Exception):
            self.known = ended

    def is_of(self, client: object) -> bool:
        """Tell whether it is a handle of this client."""
        return self._client is client

    async def cancel(self, *, reason: str = "") -> ChangeStatus:
        """Cancel the job; see the client's ``cancel``."""
        return await self._client.cancel(self.id, reason=reason)

    async def retry(self, args: Mapping[str, object] | None = None) -> ChangeStatus:
        """Run the job again, with ``args`` instead of its own arguments if given; see the client's ``retry``."""
        self._ended = None
        return await self._client.retry(self.id, args)

    async def delete(self) -> None:
        """Delete the job; see the client's ``delete``."""
        await self._client.delete(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} in {self.ref.queue}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncJob) and self.ref == other.ref

    def __hash__(self) -> int:
        return hash(self.ref)
