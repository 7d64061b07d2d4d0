"""INT 13h: drives."""
