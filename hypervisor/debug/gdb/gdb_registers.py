"""A vCPU's registers as gdb has them: bytes, little-endian, in the order of the description.

gdb takes the program counter for an address: it looks up symbols, sets breakpoints and disassembles there. So ``rip``
and ``eip`` are linear addresses (in real mode CS * 16 + IP); the offset in CS is ``ip``. In 64-bit mode they are the
same.
"""

from __future__ import annotations

from typing import Any

from hypervisor.debug.gdb.description import NARROW, REGISTERS, SEGMENTS, WIDE, Register
from hypervisor.debug.gdb.fields import Malformed
from hypervisor.errors import ConfigError

_BY_NAME = {register.name: register for register in REGISTERS}
_WRITABLE = frozenset((
    *WIDE, *NARROW, *SEGMENTS, "rip", "eip", "ip", "eflags", "mxcsr", "fs_base", "gs_base", "k_gs_base", "cr2", "cr3",
    "cr8", "fctrl", "fstat", "ftag",
))  # fmt: skip


def read(vcpu: Any, register: Register) -> bytes:
    """The bytes of a register."""
    return (_value(vcpu, register.name) & (1 << register.bits) - 1).to_bytes(register.size, "little")


def read_all(vcpu: Any) -> bytes:
    """What ``g`` answers."""
    return b"".join(read(vcpu, register) for register in REGISTERS)


def write(vcpu: Any, register: Register, data: bytes) -> None:
    """Store a register's bytes. Raises `ConfigError` for one that gdb cannot change."""
    name, value = register.name, int.from_bytes(data[: register.size], "little")
    if name[:2] == "st" and name[2:].isdigit():
        vcpu.registers.set_st(int(name[2:]), value)
    elif name.startswith("xmm"):
        vcpu.registers.set_xmm(int(name[3:]), value)
    elif name not in _WRITABLE:
        raise ConfigError(f"{name} cannot be written from gdb; the guest's own instructions can.")
    elif name in ("rip", "eip"):
        vcpu.rip = value if vcpu.mode == 64 else value - vcpu.cs.base & 0xFFFFFFFF
    elif name in ("fs_base", "gs_base"):
        vcpu.registers.set_base(name[:2], value)
    elif name in _SET:
        vcpu.registers.set_x87(**{_SET[name]: value})
    else:
        vcpu.set(_NAMES.get(name, name), value)


def write_all(vcpu: Any, data: bytes) -> None:
    """Store what ``G`` brings, as far as it can be written and differs."""
    at = 0
    for register in REGISTERS:
        new = data[at : at + register.size]
        at += register.size
        if len(new) == register.size and new != read(vcpu, register) and register.name not in _SHADOWS:
            try:
                write(vcpu, register, new)
            except ConfigError:
                continue  # G brings everything, meant or not


_NAMES = {"k_gs_base": "kernel_gs_base", "ip": "rip", "eflags": "rflags"}
_SET = {"fctrl": "control", "fstat": "status", "ftag": "tags", "mxcsr": "mxcsr"}
_SHADOWS = frozenset((*NARROW, "eip", "ip"))
"""Parts of registers that ``G`` has brought already as a whole."""


def _value(vcpu: Any, name: str) -> int:
    if name in ("rip", "eip"):
        return int(vcpu.linear_rip)
    if name[:2] == "st" and name[2:].isdigit():
        return int(vcpu.registers.st(int(name[2:])))
    if name.startswith("xmm"):
        return int(vcpu.registers.xmm(int(name[3:])))
    if name in _SET:
        return int(getattr(vcpu.registers.x87, _SET[name]))
    if name.endswith("_base") and name != "k_gs_base":
        return int(getattr(vcpu, name[:-5]).base)
    if name.endswith("_limit"):
        return int(getattr(vcpu, name[:-6]).limit)
    if name in (*SEGMENTS, "tr", "ldtr"):
        return int(getattr(vcpu, name).selector)
    if name in ("fiseg", "fioff", "foseg", "fooff", "fop"):
        return 0  # the engine does not keep where the last x87 instruction was
    return int(vcpu.get(_NAMES.get(name, name)))


def by_number(number: int) -> Register:
    """The register that gdb calls by this number. Raises `Malformed` for none."""
    if not 0 <= number < len(REGISTERS):
        raise Malformed
    return REGISTERS[number]


def by_name(name: str) -> Register:
    """The register of this name."""
    return _BY_NAME[name]
