"""The local APICs of a VM's vCPUs: the registers that guests use most, served inside their instruction."""
