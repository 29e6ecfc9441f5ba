"""The verbs of the port as plans: which statements, with which parameters, and what their rows mean. No I/O."""
