"""Guests that try to break out: directed attacks, and a fuzzer (``python -m tests.hostile.fuzz``)."""
