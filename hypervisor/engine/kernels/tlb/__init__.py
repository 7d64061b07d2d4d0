"""The kernels that Unicorn's TLB asks: its fills and entries, and accesses that it would make otherwise."""
