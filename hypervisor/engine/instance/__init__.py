"""One Unicorn instance: how it comes to be, what it traps, and what it has of a guest's memory."""
