"""The threads around a run: who runs it, who wakes it, who ends it."""
