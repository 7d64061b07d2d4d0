"""Benchmarks beside QEMU: ``python -m bench`` writes docs/benchmarks.md and docs/benchmarks.json.

The same image runs under ``qemu-system-x86_64 -accel tcg`` and here, by turns, and the medians are compared. See
`bench.report` for how each figure comes about.
"""
