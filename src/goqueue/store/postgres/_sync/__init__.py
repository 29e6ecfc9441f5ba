# Generated from src/goqueue/store/postgres/_async/__init__.py by scripts/unasync.py: change that and run `make generate`.
"""Connections, async by hand; ``_sync`` is generated from this package."""
