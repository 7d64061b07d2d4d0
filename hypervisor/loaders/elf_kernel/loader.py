"""Plain ELF executables, by their physical addresses: nothing is promised to them but the mode they are entered in.

- With a PVH note (`hypervisor.loaders.elf_kernel.pvh`): 32-bit protected mode with a start-info block, in both
  classes.
- ELF32: 32-bit protected mode, flat segments, paging off.
- ELF64: 64-bit mode, the first 4 GiB mapped one to one. A kernel linked to high virtual addresses is entered at its
  entry point's *physical* address and maps itself.

RSP points at a stack of 16 KiB; the other general registers are zero, interrupts are off and there is no IDT.
"""

from __future__ import annotations

from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.cpu_state import long_mode, protected_mode, stack_top
from hypervisor.loaders.elf_kernel import elf_file, pvh
from hypervisor.loaders.elf_kernel.loaded_symbols import ElfSymbols
from hypervisor.loaders.entry import BootSpec, Entry, GuestMemory
from hypervisor.loaders.memory_map import Placement, memory_map_of
from hypervisor.loaders.unsupported import refuse_payload


def load(image: Image, spec: BootSpec, memory: GuestMemory) -> Entry:
    """Place the segments.

    Raises `ImageError` for a bad file, and `ConfigError` for a command line that it cannot receive.
    """
    elf = elf_file.parse(image)
    placement = Placement(image.name, memory_map_of(spec, memory))
    elf_file.place(elf, memory, placement)
    symbols = ElfSymbols(image)
    start = pvh.entry_of(elf)
    if start is not None:
        return pvh.enter(start, image, spec, memory, placement, symbols)
    refuse_payload(image, spec, "a plain ELF file")
    enter = long_mode if elf.bits == 64 else protected_mode
    regs = {"rsp": stack_top(placement)}
    return enter(f"elf{elf.bits}", elf.physical_entry(), regs, memory, placement, symbols=symbols)
