"""Where jobs live: the port (what a store must do), the conformance suite (the contract), and the stores."""
