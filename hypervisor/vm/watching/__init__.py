"""Who looks at a VM: the log, coverage."""
