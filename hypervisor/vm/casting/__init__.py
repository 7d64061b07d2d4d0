"""Machines that are made as copies of one that was built."""
