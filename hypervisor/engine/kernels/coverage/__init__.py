"""Which of a guest's blocks were executed, and behind which others."""
