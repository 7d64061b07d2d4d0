"""Looking into a guest: disassembly and crash reports.

Everything here uses only the public face of a VM (`vm.vcpus`, `vcpu.read`, registers by name, `vm.symbols`).
"""

from hypervisor.debug.crash import report
from hypervisor.debug.disasm import Line, around, at, code_bits, disassemble
from hypervisor.debug.registers import registers
from hypervisor.debug.walk import Walk, explain

__all__ = ["Line", "Walk", "around", "at", "code_bits", "disassemble", "explain", "registers", "report"]
