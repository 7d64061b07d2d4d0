"""Boot sectors and CDs: what the BIOS reads from a drive, entered in real mode.

The state is the one that PC BIOSes leave (BIOS Boot Specification 1.01): CS:IP = 0000:7C00, DL = drive, interrupts on.
SS:SP is 0000:7C00 and AX is AA55h, as common BIOSes have it, though the specification promises neither.
"""

from __future__ import annotations

from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.cpu_state import real_mode
from hypervisor.loaders.entry import BootSpec, Entry
from hypervisor.loaders.unsupported import refuse_payload

LOAD_ADDRESS = 0x7C00
SECTOR = 512
CD_DESCRIPTOR = 16 * 2048


def is_bootsector(image: Image) -> bool:
    """Whether there is a whole first sector that ends in 55 AA."""
    return image.data[SECTOR - 2 : SECTOR] == b"\x55\xaa"


def is_cd(image: Image) -> bool:
    """Whether there is an ISO 9660 volume descriptor (ECMA-119, 8.1.2) in sector 16."""
    return image.data[CD_DESCRIPTOR + 1 : CD_DESCRIPTOR + 6] == b"CD001"


def check(image: Image, spec: BootSpec, kind: str) -> None:
    """Raise `ImageError` if ``image`` (its first bytes are enough) is none of ``kind`` ``"bootsector"`` or
    ``"cdrom"``, and `ConfigError` for options that such an image cannot honour.
    """
    if kind == "bootsector" and not is_bootsector(image):
        found = image.data[SECTOR - 2 : SECTOR].hex(" ") or "the end of the file"
        raise image.error(
            f"this is not a boot sector: 55 aa is needed at offset 510, and there is {found}. "
            "For a raw binary use --format flat with --at, --entry and --mode."
        )
    if kind == "cdrom" and not is_cd(image):
        raise image.error("this is not a CD image: there is no ISO 9660 volume descriptor in sector 16.")
    refuse_payload(image, spec, "a boot sector" if kind == "bootsector" else "a CD")


def enter(start: int, drive: int) -> Entry:
    """The state at the first instruction of boot code at linear address ``start``, from BIOS drive ``drive``."""
    return real_mode("bootsector", start, {"rax": 0xAA55, "rdx": drive}, stack=LOAD_ADDRESS)
