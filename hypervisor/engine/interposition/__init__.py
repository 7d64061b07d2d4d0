"""What we put into the loaded Unicorn library: where its calls are led through ours, and how those places are found."""
