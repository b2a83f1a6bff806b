"""The policy in force: built by a process of its own, read from a mapped file, swapped at once."""
