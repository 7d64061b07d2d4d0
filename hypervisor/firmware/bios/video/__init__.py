"""INT 10h: the screen."""
