"""Who runs: VMs on pCPUs, vCPUs within a VM."""
