"""The kernels that run the guest, and that deal with what leaves it: exits, events, ports, time."""
