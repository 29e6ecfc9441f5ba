"""The nouns of GoQueue: frozen values and pure rules. Imports nothing else of goqueue."""
