"""The engine: a physical CPU made of one Unicorn instance, and the compiled kernels that run around it.

This is the only room that imports ``unicorn`` and ``numba``. It runs the guest and says why it stopped; it never
decides what an exit means.
"""
