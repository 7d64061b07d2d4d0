"""What a host says of its VMs: what becomes of them, as it happens, and figures of where they stand."""
