"""Use-cases of the server over a store: may it, whose is it, was it asked before. No HTTP in here."""
