"""The command line: thin, on a `Doors` that `goqueue.wiring` implements. Importing this package loads nothing."""
