"""Boot sectors: real mode at 7c00h, with the whole image as BIOS drive 80h behind it.

The state is the one that PC BIOSes leave (BIOS Boot Specification 1.01): CS:IP = 0000:7C00, DL =
drive, interrupts on. SS:SP is 0000:7C00 and AX is AA55h, as common BIOSes have it, though the specification promises
neither. The image need not be padded: sectors beyond its end read as zeros (the BIOS services see to it).
"""

from __future__ import annotations

from dataclasses import replace

from hypervisor.errors import ImageError
from hypervisor.loaders.cpu_state import real_mode
from hypervisor.loaders.entry import BootSpec, Entry, GuestMemory
from hypervisor.loaders.image import Image
from hypervisor.loaders.options import refuse_payload

LOAD_ADDRESS = 0x7C00
SECTOR = 512
FIRST_HARD_DISK = 0x80


def is_bootsector(image: Image) -> bool:
    """Whether there is a whole first sector that ends in 55 AA."""
    return image.data[SECTOR - 2 : SECTOR] == b"\x55\xaa"


def load(image: Image, spec: BootSpec, memory: GuestMemory) -> Entry:
    """Put the first sector at 7c00h; raises `ImageError` without the signature or without memory for it."""
    if not is_bootsector(image):
        found = image.data[SECTOR - 2 : SECTOR].hex(" ") or "the end of the file"
        raise image.error(
            f"this is not a boot sector: 55 aa is needed at offset 510, and there is {found}. "
            "For a raw binary use --format flat with --at, --entry and --mode."
        )
    refuse_payload(image, spec, "a boot sector")
    if (spec.memory_size or memory.size) < LOAD_ADDRESS + SECTOR:
        raise ImageError(
            f"{image.name}: a boot sector is loaded at 0x7c00; give the guest at least 32K of memory (--memory)."
        )
    memory.write(LOAD_ADDRESS, image.data[:SECTOR])
    entry = real_mode("bootsector", LOAD_ADDRESS, {"rax": 0xAA55, "rdx": FIRST_HARD_DISK}, stack=LOAD_ADDRESS)
    return replace(entry, disk=image.data)
