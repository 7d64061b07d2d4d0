"""How long a BIOS call takes: a fixed time, and more for each access to memory and ports that it makes and each sector.

The figures are what the services take here, so that a loop of calls takes the host about as long as it takes the guest
(``python -m bench.loops``). A PC's BIOS is of the same order: some microseconds, more for a scroll, a mode, a sector.
"""

from __future__ import annotations

from hypervisor.bus import Dma
from hypervisor.firmware.bios.call import Ports

CALL_NS = 30_000
ACCESS_NS = 1_500
PORT_NS = 1_000
SECTOR_NS = 2_000


class Meter:
    """Adds up the virtual nanoseconds of the call in progress."""

    def __init__(self) -> None:
        self._ns = 0

    def add(self, ns: int) -> None:
        """The call takes ``ns`` longer."""
        self._ns += ns

    def take(self) -> int:
        """What has come together since the last time, in virtual nanoseconds."""
        ns, self._ns = self._ns, 0
        return ns


class MeteredMemory:
    """Guest memory as `Dma`, each access on the meter."""

    def __init__(self, memory: Dma, meter: Meter) -> None:
        self._memory = memory
        self._meter = meter

    def read(self, gpa: int, size: int) -> bytes:
        """As `Dma.read`."""
        self._meter.add(ACCESS_NS)
        return self._memory.read(gpa, size)

    def write(self, gpa: int, data: bytes) -> None:
        """As `Dma.write`."""
        self._meter.add(ACCESS_NS)
        self._memory.write(gpa, data)


class MeteredPorts:
    """The board's ports, each access on the meter."""

    def __init__(self, ports: Ports, meter: Meter) -> None:
        self._ports = ports
        self._meter = meter

    def read(self, port: int, size: int) -> int:
        """As `Ports.read`."""
        self._meter.add(PORT_NS)
        return self._ports.read(port, size)

    def write(self, port: int, size: int, value: int) -> None:
        """As `Ports.write`."""
        self._meter.add(PORT_NS)
        self._ports.write(port, size, value)
