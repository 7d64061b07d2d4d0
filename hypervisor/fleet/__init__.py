"""A described set of machines on one host: what is in the file of `hypervisor up`, and all of it started."""
