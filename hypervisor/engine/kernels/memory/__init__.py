"""The kernels about memory: page walks, the TLB's fills and entries, and the CPU's own accesses."""
