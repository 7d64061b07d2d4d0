"""The kernels by which others stop: telling Python, the ways out of the guest, and what is put right on the way."""
