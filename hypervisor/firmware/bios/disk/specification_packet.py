"""The specification packet of INT 13h AH=4Bh: what the machine was booted from, when that was a CD.

Source: "El Torito" Bootable CD-ROM Format Specification 1.0, section 4, "INT 13 function 4Bh".
"""

from __future__ import annotations

import struct

from hypervisor.backends.el_torito import BootImage
from hypervisor.firmware.bios.disk.drive_numbers import CD, Drive, Kind

SIZE = 0x13


def status_packet(image: BootImage, drive: Drive) -> bytes:
    """The packet for ``image``, asked for by ``drive``; the emulated geometry is that of the drive."""
    cylinder = head = sector = 0
    if drive.kind is not Kind.CD:
        cylinders, heads, sectors = drive.medium.geometry
        cylinder, head, sector = cylinders - 1, heads - 1, sectors
    return struct.pack(
        "<BBBBIHHHHBBB",
        SIZE,
        image.emulation,
        drive.number if drive.kind is not Kind.CD else CD,
        0,  # the controller's index
        image.start,
        0,  # device: master of its channel
        0,  # no user buffer
        image.segment,
        image.count,
        cylinder & 0xFF,
        sector | cylinder >> 8 << 6,
        head,
    )
