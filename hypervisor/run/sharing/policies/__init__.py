"""Policies that a host may have: who runs when."""
