"""Small helpers for frameworks. Each imports its framework, which nothing else of GoQueue does."""
