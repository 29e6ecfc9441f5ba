"""The async client, written by hand. `goqueue.client._sync` is generated from it."""
