"""``hypervisor up``: a described set of machines in the foreground, a table on a terminal or lines for programs."""
