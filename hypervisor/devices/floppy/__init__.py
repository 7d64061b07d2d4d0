"""The floppy controller, an 82077AA as PCs have it (Intel data sheet 290166)."""

from hypervisor.devices.floppy.controller import I82077
from hypervisor.devices.floppy.fdc_registers import SIZE

__all__ = ["I82077", "SIZE"]
