"""The suite itself: a case that is hidden by another of the same name would never run."""

from __future__ import annotations

import inspect
from collections import Counter

import goqueue.store.conformance as suite
from goqueue.store.conformance import StoreCases


def test_no_case_hides_another() -> None:
    names = Counter(name for cls in StoreCases.__mro__ for name in vars(cls) if name.startswith("test_"))
    assert [name for name, count in names.items() if count > 1] == []
    assert len(names) > 150


def test_every_case_is_a_coroutine_that_takes_a_harness() -> None:
    for name, case in inspect.getmembers(StoreCases, inspect.isfunction):
        if name.startswith("test_"):
            assert inspect.iscoroutinefunction(case), name
            assert list(inspect.signature(case).parameters) == ["self", "harness"], name


def test_every_module_of_cases_is_registered_for_readable_failures() -> None:
    modules = {cls.__module__.rpartition(".")[2] for cls in StoreCases.__mro__ if cls.__name__.endswith("Cases")}
    assert modules - {"suite"} == set(suite.CASES)
