"""What an ELF file knows of its code: symbols, source lines and call frames, out of files that may be hostile.

Everything is bytes in, values out. A file is read once and in order: time and memory grow with its size, whatever is
in it, and each reader says in its module where it stops. What is damaged raises `ElfError`, and nothing else.

Sources: System V ABI, chapter 4 (object files); DWARF Debugging Information Format 5, sections 6.2 and 6.4.
"""

from hypervisor.elf.call_frame_information import CallFrames
from hypervisor.elf.frame_rules import Row
from hypervisor.elf.line_programs import Lines
from hypervisor.elf.reader import ElfError
from hypervisor.elf.sections import MAGIC, Sections
from hypervisor.elf.symbol_sections import functions, symbols

__all__ = ["MAGIC", "CallFrames", "ElfError", "Lines", "Row", "Sections", "functions", "symbols"]
