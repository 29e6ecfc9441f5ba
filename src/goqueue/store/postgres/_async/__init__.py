"""Connections, async by hand; ``_sync`` is generated from this package."""
