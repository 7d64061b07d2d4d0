"""Runs that begin again and again from one moment."""
