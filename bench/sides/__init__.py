"""What is measured: each side enqueues and works in processes of its own, with the same words on its command line."""
