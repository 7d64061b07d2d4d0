"""The microbenchmark image, assembled by the package's own assembler."""

from __future__ import annotations

from pathlib import Path

from hypervisor.assembler import assemble, assemble_file

SOURCE = Path(__file__).with_name("micro.asm")
SUCCESS = 0x10 << 1 | 1
"""Exit status after the image wrote 0x10 to the debug-exit port."""
DISK = 4096
"""Bytes of the image at least."""
IPI_SOURCE = Path(__file__).with_name("ipi.asm")
INCLUDES = Path(__file__).parent.parent / "guests"
HALT = 15
"""The test that does nothing but halt for good."""


def build(directory: Path) -> Path:
    """Write the image into ``directory``; returns its path. It is the disk of test 19, too."""
    path = directory / "micro.bin"
    path.write_bytes(assemble_file(SOURCE).code.ljust(DISK, b"\0"))
    return path


def build_ipi(directory: Path) -> Path:
    """Write the image of the interprocessor interrupts into ``directory``; returns its path."""
    path = directory / "ipi.bin"
    path.write_bytes(assemble(IPI_SOURCE.read_text(), file=IPI_SOURCE.name, folder=INCLUDES).code)
    return path
