"""Words of memory that Python and the kernels share, and that outlive an engine."""
