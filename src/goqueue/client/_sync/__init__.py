# Generated from src/goqueue/client/_async/__init__.py by scripts/unasync.py: change that and run `make generate`.
"""The async client, written by hand. `goqueue.client._sync` is generated from it."""
