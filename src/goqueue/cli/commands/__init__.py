"""One file for each group of commands: signatures and output. Each has ``register(cli)``; bodies import lazily."""
