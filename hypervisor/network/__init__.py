"""Ethernet inside the process: links with their faults, switches, captures. Deterministic, and without a clock."""
