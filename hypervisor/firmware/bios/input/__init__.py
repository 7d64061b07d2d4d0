"""INT 9h and 16h: keys."""
