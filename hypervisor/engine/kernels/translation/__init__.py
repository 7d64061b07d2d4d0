"""The kernels that run while the guest's code is translated, and what they know of translated code."""
