"""The VM that users hold."""
