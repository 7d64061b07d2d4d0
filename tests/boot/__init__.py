"""Loaders and BIOS services, tested without a CPU."""
