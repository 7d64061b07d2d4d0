"""The terminal: keys, the live screen, and giving it back."""
