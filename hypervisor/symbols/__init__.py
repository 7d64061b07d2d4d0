"""Symbols, source lines and call frames of a guest's ELF file."""
