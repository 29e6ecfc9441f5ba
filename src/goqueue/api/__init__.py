"""The HTTP server: one table of operations, from which both the routes and the OpenAPI document are made."""
