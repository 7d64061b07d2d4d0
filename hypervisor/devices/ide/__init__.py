"""IDE: two channels of two drives, hard disks and CDs, by PIO and by bus-master DMA.

Sources: ATA/ATAPI-4 to -6 (INCITS 317, 340, 361); SFF-8020i and MMC-3 for what a CD drive answers; Intel 82371SB
(PIIX3) data sheet, 2.7, for the bus master. `registers` has the tables, `channel` the device.
"""

from hypervisor.devices.ide.bus_master import BusMaster
from hypervisor.devices.ide.cdrom import Cdrom
from hypervisor.devices.ide.channel import IdeChannel
from hypervisor.devices.ide.disk import AtaDisk

__all__ = ["AtaDisk", "BusMaster", "Cdrom", "IdeChannel"]
