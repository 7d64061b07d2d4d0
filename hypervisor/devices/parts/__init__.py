"""What device models are made of: registers, timers and states that are a file of their own."""
