"""jann and its rivals at the same work on the same machine, each in a process of its own."""
