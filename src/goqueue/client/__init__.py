"""Clients: `AsyncClient`, written by hand, and `Client`, generated from it. Over a store or over HTTP."""
