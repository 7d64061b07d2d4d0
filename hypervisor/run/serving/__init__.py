"""Serving an exit: its record, devices and memory, the verdict, and what handlers raise."""
