"""The suite on the page about middleware runs as it stands there, and its modules are typed as it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import run_suite, type_check


@pytest.mark.slow
def test_the_suite_passes(tmp_path: Path) -> None:
    run_suite("middleware.md", tmp_path)
    type_check("middleware.md", tmp_path)
