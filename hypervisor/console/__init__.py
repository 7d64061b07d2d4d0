"""What a guest writes and a person at the machine sees, waits for, types and hears."""
