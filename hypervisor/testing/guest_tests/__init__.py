"""Tests that a guest makes of itself: what it reports of them, read, and told as tests of pytest."""
