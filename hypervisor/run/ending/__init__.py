"""What ends a run, and what it returns."""
