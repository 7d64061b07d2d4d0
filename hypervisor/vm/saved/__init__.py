"""Machines in files: what is in one, writing it, reading it. docs/snapshot_files.md says what users need to know."""
