"""Trap handlers: how they are registered, what a run makes of them, plugins, and the built-in ones."""
