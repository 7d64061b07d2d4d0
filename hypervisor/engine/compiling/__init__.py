"""From kernels to machine code: the entry points that Unicorn calls, their compiler, and where the result is kept."""
