"""The board's PCI as a guest finds it, beside QEMU's after SeaBIOS has set it up."""

from __future__ import annotations

import subprocess
from contextlib import closing
from pathlib import Path

import hypervisor as hv
from tests.programs import QEMU, program
from tests.sectors import boot_sector

FUNCTIONS = {"host bridge": (0, 0), "ISA bridge": (1, 0), "IDE": (1, 1), "power management": (1, 3), "display": (2, 0)}
DUMP = """
# for each of the functions: 64 dwords of configuration, to the debug console
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov si, functions
next_function:
    lodsw
    cmp ax, 0xffff
    je done
    movzx ebx, ax
    or ebx, 0x80000000
    mov cx, 64
next_dword:
    mov eax, ebx
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfc
    in eax, dx
    mov di, 4
next_byte:
    out 0xe9, al
    shr eax, 8
    dec di
    jnz next_byte
    add ebx, 4
    dec cx
    jnz next_dword
    jmp next_function
done:
    mov al, 0x10
    out 0xf4, al
    hlt
functions:
    .word FUNCTIONS, 0xffff
"""
COMMAND = {0x04, 0x05}  # which bits exist follows the data sheets here; QEMU makes the same ones writable everywhere
KNOWN: dict[str, set[int]] = {
    "host bridge": {
        *(*COMMAND, 0x06, 0x07),
        *(0x53, 0x57, 0x58, *range(0x60, 0x68), 0x71),  # DRAM controller: the data sheet's values after a reset
        *(*range(0x59, 0x5F), 0x72),  # PAM and SMRAM: our BIOS lies in RAM that stays writable; no SMM
    },
    "ISA bridge": {*COMMAND, 0x71},  # MBIRQ1, which QEMU does not have
    "IDE": COMMAND,
    "display": {*COMMAND, *range(0x18, 0x1C), *range(0x30, 0x34)},  # where its registers are; QEMU has its ROM there
    "power management": {*COMMAND, 0x5F, 0x63, 0x67},  # QEMU tells there which serial and parallel ports it has
}
"""Bytes that differ."""


def dumper() -> bytes:
    words = ", ".join(f"{device << 11 | number << 8:#x}" for device, number in FUNCTIONS.values())
    return boot_sector(DUMP.replace("FUNCTIONS", words))


def dumps(output: bytes) -> dict[str, bytes]:
    assert len(output) == 256 * len(FUNCTIONS)
    return {name: output[256 * n : 256 * n + 256] for n, name in enumerate(FUNCTIONS)}


def ours() -> dict[str, bytes]:
    out = bytearray()
    with closing(hv.boot(dumper(), memory="16M")) as vm:

        @vm.traps.port_out(0xE9)
        def collect(vcpu, exit):  # type: ignore[no-untyped-def]
            out.append(exit.value)
            return hv.HANDLED

        assert vm.run(virtual_timeout=10).reason is hv.Reason.DEBUG_EXIT
    return dumps(bytes(out))


def qemus(directory: Path) -> dict[str, bytes]:
    image = directory / "dump.img"
    image.write_bytes(dumper())
    command = [
        *(program(QEMU), "-accel", "tcg", "-M", "pc", "-m", "16", "-display", "none", "-net", "none"),
        *("-drive", f"format=raw,file={image}", "-debugcon", "stdio", "-no-reboot"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 33, done.stderr.decode()
    return dumps(done.stdout)


def test_guests_find_what_seabios_leaves_under_qemu(tmp_path: Path) -> None:
    mine, theirs = ours(), qemus(tmp_path)
    for name in FUNCTIONS:
        different = {
            f"{at:02x}": f"{mine[name][at]:02x}, QEMU {theirs[name][at]:02x}"
            for at in range(256)
            if mine[name][at] != theirs[name][at] and at not in KNOWN[name]
        }
        assert not different, (name, different)
