"""Hosts that promise more memory than they have, and whose frames are counted when all is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import hypervisor as hv
from tests.memory.maps import census


@contextmanager
def scarce(memory: str, pcpus: int) -> Iterator[hv.Host]:
    """One that promises four times as much; behind the block its VMs are closed, and nothing of them is left."""
    with closing(hv.Host(memory, pcpus, overcommit=4, swap="24M")) as host:
        yield host
        for vm in list(host.vms):
            vm.close()
        host.sharing.forget_unused()
        count(host)
        assert host.memory.swapped == 0 and host.memory.unreserved == host.memory.limit


def count(host: hv.Host) -> None:
    """See that each frame is where the maps of the VMs that are there say."""
    census(host.memory, [vm.memory.pages for vm in host.vms], host.sharing.frames)


__all__ = ["count", "scarce"]
