"""Handlers that run inside the engine."""
