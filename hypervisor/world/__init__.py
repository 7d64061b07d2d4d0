"""Worlds: machines that can reach each other, and so share one virtual time."""
