"""Many short runs from one moment (`hypervisor.vm.snapshot.Snapshot.map`)."""
