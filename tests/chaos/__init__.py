"""The fault suite. Start with `tests.chaos.harness`, whose docstring shows how to write a test."""
