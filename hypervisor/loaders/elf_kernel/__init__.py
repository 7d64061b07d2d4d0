"""ELF executables, with a PVH note or without."""
