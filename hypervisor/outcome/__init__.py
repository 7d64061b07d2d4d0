"""How a run ended, as values."""
