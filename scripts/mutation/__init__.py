"""The mutation check: each guard of the statements that write is dropped once, and a test has to notice."""
