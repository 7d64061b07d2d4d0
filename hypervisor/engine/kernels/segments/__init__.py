"""The kernels about segments: descriptors, their checks, far transfers, and the stacks of privilege levels."""
