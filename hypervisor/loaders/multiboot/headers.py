"""What multiboot 1 and 2 share: finding a header, and loading by address fields (the "a.out kludge")."""

from __future__ import annotations

from typing import NamedTuple

from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.c_text import c_string, command_line
from hypervisor.loaders.elf_kernel.elf_file import zero
from hypervisor.loaders.entry import BootSpec, GuestMemory
from hypervisor.loaders.memory_map import Placement

LOADER_NAME = b"rootmode\0"


class AddressFields(NamedTuple):
    """Where a file without an understood executable header wants to be: physical addresses.

    ``load_end`` 0 means all of the file, ``bss_end`` 0 no bss.
    """

    header: int
    load: int
    load_end: int
    bss_end: int


class Module(NamedTuple):
    """A boot module in guest memory: the half-open range [start, end) and its command line, NUL included."""

    start: int
    end: int
    line: bytes


def place_by_address(
    image: Image, fields: AddressFields, header_offset: int, memory: GuestMemory, placement: Placement
) -> None:
    """Load the file as ``fields`` say (multiboot 0.6.96, section 3.1.3); raises `ImageError` for contradictions."""
    before = fields.header - fields.load
    offset = header_offset - before
    if before < 0 or offset < 0:
        raise image.error(
            f"the multiboot header says that it is loaded at {fields.header:#x} from file offset {header_offset:#x}, "
            f"which puts load address {fields.load:#x} outside the file; correct header_addr or load_addr."
        )
    end = fields.load_end or fields.load + len(image) - offset
    if end <= fields.load:
        raise image.error(
            f"the multiboot header's load_end_addr {end:#x} is not above load_addr {fields.load:#x}; correct it."
        )
    if fields.bss_end and fields.bss_end < end:
        raise image.error(
            f"the multiboot header's bss_end_addr {fields.bss_end:#x} is below the end {end:#x}; correct it."
        )
    data = image.view(offset, end - fields.load, "what the multiboot header's address fields load")
    total_end = fields.bss_end or end
    placement.claim(fields.load, total_end - fields.load, "the image")
    memory.write(fields.load, data)
    zero(memory, end, total_end - end)


def place_modules(spec: BootSpec, memory: GuestMemory, placement: Placement) -> list[Module]:
    """The modules page-aligned above 1 MiB, in order; an initrd is one more, the first, and called ``initrd``."""
    given = list(spec.modules)
    if spec.initrd is not None:
        given.insert(0, ("initrd", "", spec.initrd))
    placed = []
    for name, arguments, data in given:
        line = c_string(command_line(name, arguments), f"the command line of module {name}")
        # An empty module still gets an address of its own.
        start = placement.find(max(len(data), 1), f"module {name}", low=1 << 20)
        memory.write(start, data)
        placed.append(Module(start, start + len(data), line))
    return placed


def kernel_line(image: Image, spec: BootSpec) -> bytes:
    """The kernel's command line with its NUL: the image's name, then what the user appended."""
    return c_string(command_line(image.name, spec.append), "the command line")
