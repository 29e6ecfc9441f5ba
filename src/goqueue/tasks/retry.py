"""`RetryPolicy`: when the next attempt starts, and after which errors there is one. Chance is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from goqueue.model import limits
from goqueue.model.errors import DefinitionError
from goqueue.model.retry import Jitter as Jitter
from goqueue.model.retry import RetryDelays
from goqueue.tasks.retry_after import asked_for_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

E = TypeVar("E", bound=BaseException)

RETRY_AFTER_MAX_S: Final = 86_400.0
"""Who answers "come back in a year" is believed for a day, unless a policy says otherwise."""

_NUMBERS: Final = RetryDelays.__struct_fields__


class RetryPolicy(RetryDelays, frozen=True, kw_only=True):
    """How long a failed job waits, and which errors are not worth another attempt.

    The default waits 2 s, 4 s, 8 s … up to an hour, half of it by chance: 20 attempts take about 8 hours.
    The numbers of `RetryDelays` can also be given to a single job; what is said here about exceptions is the task's.
    """

    no_retry_on: tuple[type[BaseException], ...] = ()
    """An error of these types makes the job dead at once."""
    rules: tuple[tuple[type[BaseException], RetryPolicy], ...] = ()
    """Other delays for some types of errors; `on` adds to them. Of all types named in ``rules`` and ``no_retry_on``
    the most specific one decides: the first in the error's ``__mro__``."""
    retry_after_max_s: float = RETRY_AFTER_MAX_S
    """When an error says after which time to come back (``Retry-After``), and that is later than the policy's own
    delay, it is obeyed up to this many seconds; 0: never. See `goqueue.tasks.retry_after`."""

    def __post_init__(self) -> None:
        """Refuse what could not be computed with, or would mean two things."""
        if (problem := problem_of(self)) is not None:
            raise DefinitionError(f"retry: {problem[0]} {problem[1]}")
        if not _within(self.retry_after_max_s, 0, limits.DELAY_S_MAX):
            raise DefinitionError(
                f"retry: retry_after_max_s must be from 0 to {limits.DELAY_S_MAX:g}, is {self.retry_after_max_s!r}"
            )
        named: set[type[BaseException]] = set()
        for cls in (*self.no_retry_on, *(cls for cls, _ in self.rules)):
            if not _is_exception_class(cls):
                raise DefinitionError(f"retry: no_retry_on and on take exception classes, not {cls!r}")
            if cls in named:
                raise DefinitionError(f"retry: {cls.__qualname__} is named twice")
            named.add(cls)
        for cls, policy in self.rules:
            if not isinstance(policy, RetryPolicy):
                raise DefinitionError(f"retry: on {cls.__qualname__} takes a RetryPolicy, not {policy!r}")
            if policy.has_rules:
                raise DefinitionError(f"retry: the policy on {cls.__qualname__} has rules of its own: put them here")

    @classmethod
    def exponential(
        cls,
        *,
        base_s: float = 2.0,
        factor: float = 2.0,
        cap_s: float = 3600.0,
        jitter: Jitter = Jitter.EQUAL,
        no_retry_on: Sequence[type[BaseException]] = (),
        on: Mapping[type[E], RetryPolicy] | None = None,
        retry_for_s: float | None = None,
        retry_after_max_s: float = RETRY_AFTER_MAX_S,
    ) -> RetryPolicy:
        """Wait ``base_s``, then ``factor`` times as long each time, at most ``cap_s``."""
        return cls(
            base_s=base_s,
            factor=factor,
            cap_s=cap_s,
            jitter=Jitter(jitter),
            no_retry_on=_listed(no_retry_on),
            rules=tuple((on or {}).items()),
            retry_for_s=retry_for_s,
            retry_after_max_s=retry_after_max_s,
        )

    @classmethod
    def fixed(
        cls,
        delay_s: float,
        *,
        jitter: Jitter = Jitter.NONE,
        no_retry_on: Sequence[type[BaseException]] = (),
        on: Mapping[type[E], RetryPolicy] | None = None,
        retry_for_s: float | None = None,
        retry_after_max_s: float = RETRY_AFTER_MAX_S,
    ) -> RetryPolicy:
        """Wait the same time after each attempt."""
        return cls(
            delays_s=(delay_s,),
            jitter=Jitter(jitter),
            no_retry_on=_listed(no_retry_on),
            rules=tuple((on or {}).items()),
            retry_for_s=retry_for_s,
            retry_after_max_s=retry_after_max_s,
        )

    @classmethod
    def list(
        cls,
        delays_s: Sequence[float],
        *,
        jitter: Jitter = Jitter.NONE,
        no_retry_on: Sequence[type[BaseException]] = (),
        on: Mapping[type[E], RetryPolicy] | None = None,
        retry_for_s: float | None = None,
        retry_after_max_s: float = RETRY_AFTER_MAX_S,
    ) -> RetryPolicy:
        """Wait these times in turn, and the last one after every further attempt."""
        if not delays_s:
            raise DefinitionError("retry: the list of delays is empty")
        return cls(
            delays_s=tuple(delays_s),
            jitter=Jitter(jitter),
            no_retry_on=_listed(no_retry_on),
            rules=tuple((on or {}).items()),
            retry_for_s=retry_for_s,
            retry_after_max_s=retry_after_max_s,
        )

    def on(self, error: type[BaseException], policy: RetryPolicy) -> RetryPolicy:
        """Return a copy that waits as ``policy`` says after errors of this type, and of types below it."""
        return msgspec.structs.replace(self, rules=(*self.rules, (error, policy)))

    @property
    def has_rules(self) -> bool:
        """Whether it says something about exceptions, which no single job can carry."""
        return bool(self.rules or self.no_retry_on)

    def rule(self, error: BaseException) -> RetryPolicy | None:
        """Return the policy that the most specific type named here gives ``error``; itself if none is named.

        None means that no further attempt is worth it.
        """
        if self.rules or self.no_retry_on:
            others = dict(self.rules)
            for cls in type(error).__mro__:
                if cls in others:
                    return others[cls]
                if cls in self.no_retry_on:
                    return None
        return self

    def retries(self, error: BaseException) -> bool:
        """Tell whether another attempt may help after this error."""
        return self.rule(error) is not None

    def wait_s(
        self, error: BaseException, attempt: int, random01: float, numbers: RetryDelays | None = None
    ) -> float | None:
        """Return the seconds from the failure of attempt number ``attempt`` by ``error`` to the next one, or None.

        ``numbers`` are those of the job itself: they stand in for this policy's, its rules about exceptions stay.
        """
        rule = self.rule(error)
        if rule is None:
            return None
        own = numbers if rule is self and numbers is not None else rule
        delay_s = own.delay_s(attempt, random01)
        obey_s = min(rule.retry_after_max_s, self.retry_after_max_s)
        if obey_s > 0 and (asked_s := asked_for_s(error)) is not None:
            delay_s = max(delay_s, min(asked_s, obey_s))
        return delay_s

    def tried_for_max_s(self, error: BaseException, numbers: RetryDelays | None = None) -> float | None:
        """Return how long after the first attempt another may start; None: for ever. A rule can only shorten it."""
        rule = self.rule(error) or self
        bounds = (rule.retry_for_s, (numbers or self).retry_for_s)
        return min((bound for bound in bounds if bound is not None), default=None)


def numbers_of(delays: RetryDelays) -> RetryDelays:
    """Return only the numbers of a policy: what a job can carry."""
    values = {name: getattr(delays, name) for name in _NUMBERS}
    return RetryDelays(**{**values, "delays_s": tuple(delays.delays_s)})


def problem_of(delays: RetryDelays) -> tuple[str, str] | None:
    """Return the name of a number that could not be computed with, and what it must be; None if all is well."""
    for name, low, high in (
        ("base_s", 0, limits.DELAY_S_MAX),
        ("cap_s", 0, limits.DELAY_S_MAX),
        ("factor", 1, limits.RETRY_FACTOR_MAX),
    ):
        value = getattr(delays, name)
        if not _within(value, low, high):
            return name, f"must be from {low:g} to {high:g}, is {value!r}"
    jitter: object = delays.jitter
    if not isinstance(jitter, Jitter):
        return "jitter", f"must be full, equal or none, is {delays.jitter!r}"
    listed: object = delays.delays_s
    if not isinstance(listed, list | tuple) or len(listed) > limits.RETRY_DELAYS_MAX:
        return "delays_s", f"must be a list of at most {limits.RETRY_DELAYS_MAX}"
    for delay_s in listed:
        if not _within(delay_s, 0, limits.DELAY_S_MAX):
            return "delays_s", f"must be from 0 to {limits.DELAY_S_MAX:g}, has {delay_s!r}"
    if delays.retry_for_s is not None and not _within(delays.retry_for_s, 0, limits.DELAY_S_MAX):
        return "retry_for_s", f"must be from 0 to {limits.DELAY_S_MAX:g}, is {delays.retry_for_s!r}"
    return None


def _is_exception_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _within(value: object, low: float, high: float) -> bool:
    # NaN is within nothing.
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


DEFAULT_RETRY = RetryPolicy()


def _listed(classes: Sequence[type[BaseException]]) -> tuple[type[BaseException], ...]:
    if isinstance(classes, type):
        raise DefinitionError(f"retry: no_retry_on takes a list: write no_retry_on=[{classes.__name__}]")
    return tuple(classes)
