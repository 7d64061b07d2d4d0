"""A named network of a world, as users hold it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError
from hypervisor.network.capture import LIMIT, Capture
from hypervisor.network.ethernet import local_address, parse_address
from hypervisor.network.link import Link
from hypervisor.network.network import Network
from hypervisor.world.member import Member, Socket

if TYPE_CHECKING:
    from hypervisor.devices.ethernet_port import EthernetPort
    from hypervisor.vm.vm import VM

BASE, IRQ = 0x300, 10
"""Where a machine's interface is unless said otherwise: the first of the ports, and the interrupt."""


class Lan:
    """A switch and the cables to it. Machines on different ones do not reach each other."""

    def __init__(self, network: Network, member: Callable[[VM], Member], number: Callable[[], int]) -> None:
        """``number()`` is another one for each interface of the world."""
        self.network = network
        self._member, self._number = member, number

    @property
    def name(self) -> str:
        """What it is called."""
        return self.network.name

    def connect(
        self, vm: VM, link: Link | None = None, *, mac: str | bytes | None = None, base: int = BASE, irq: int = IRQ
    ) -> EthernetPort:
        """Give a machine of the world an interface on this network, before its first run: its registers at I/O port
        ``base`` (docs/networks.md), its interrupt ``irq``, its address ``mac`` (02:00:00:00:00:01 and so on if none is
        given). ``link`` is its cable, by default `Link`'s 100 us without faults. Returns the device.

        Raises `ConfigError` for a machine of another world, or one that follows the wall clock, and `DeviceError` where
        it cannot be put.
        """
        address = local_address(self._number()) if mac is None else parse_address(mac)
        link = Link() if link is None else link
        if not isinstance(link, Link):
            raise ConfigError(f"link={link!r}: give a hypervisor.Link.")
        member = self._member(vm)
        return member.plug_in(self.network.plug(vm.name, link), Socket(base, irq, address))

    def capture(self, path: str | os.PathLike[str], limit: int = LIMIT) -> Capture:
        """Write each frame that comes to the switch from now on into a pcap file, with its virtual time, up to
        ``limit`` bytes. Closing the world finishes it. Raises `ConfigError` where it cannot be written.
        """
        return self.network.capture(path, limit)


__all__ = ["Lan"]
