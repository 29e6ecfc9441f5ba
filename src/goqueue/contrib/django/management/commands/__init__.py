"""`goqueue_worker`, `goqueue_migrate`."""
