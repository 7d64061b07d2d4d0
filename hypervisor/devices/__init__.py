"""Device models of a PC: each answers by offset, and its whole world is its constructor's arguments."""
