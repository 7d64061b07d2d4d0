"""Floating point, SSE and MMX on the host's own unit, in place of Unicorn's helpers: machine code, from assembly."""
