"""The display adapter: an IBM VGA with the Bochs display interface.

`text` and `render` say what it shows. `adapter` has the registers, `planes` the graphics controller behind A0000h,
`dispi` the linear modes; `window` says when the guest reaches the memory directly.
"""

from hypervisor.devices.vga.adapter import Vga
from hypervisor.devices.vga.mode_geometry import Mode
from hypervisor.devices.vga.window import Kind, Window

__all__ = ["Kind", "Mode", "Vga", "Window"]
