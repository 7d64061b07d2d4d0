"""The kernels about memory: page walks, the CPU's own accesses, code as bytes."""
