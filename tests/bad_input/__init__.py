"""What people get wrong, with the sentence that each gets."""
