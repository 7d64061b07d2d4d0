"""Multiboot 1 and 2."""
