"""Looking into a guest: crash reports that name the mistake, page walks in words, disassembly, and the gdb server.

Reports use only the public face of a VM (`vm.vcpus`, `vcpu.read`, registers by name, `vm.symbols`, states of devices).
"""

from hypervisor.debug.crash import report
from hypervisor.debug.disasm import around, at, code_bits, disassemble
from hypervisor.debug.register_text import registers
from hypervisor.debug.walk import Walk, explain
from hypervisor.vcpu.code_line import Line

__all__ = ["Line", "Walk", "around", "at", "code_bits", "disassemble", "explain", "registers", "report"]
