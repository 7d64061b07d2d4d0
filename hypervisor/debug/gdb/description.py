"""The target description: which registers there are, in which order ``g`` has them, as data.

One session may go from real mode to long mode, but gdb reads the description once, and refuses a ``g`` packet of
another length. So the description always has the registers of both worlds: RAX to R15 with RIP, as gdb's x86-64 needs
them, and EAX to EDI with EIP, as its i386 and i8086 do. gdb takes it under each of the three architectures, so that
``set architecture`` (or the ELF file that is loaded) decides how code is shown, at any time. What follows the CPU is
the architecture that the description names, and it is read anew when the user types ``unset tdesc filename``.

Sources: the gdb manual, appendix G.2 (format) and G.5.9 (the i386 features that gdb looks for).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from hypervisor.arch import flags

ARCHITECTURES = {16: "i8086", 32: "i386", 64: "i386:x86-64"}
"""gdb's name of the code that a CPU runs, by its width in bits."""

WIDE = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
NARROW = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
X87_CONTROL = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")


@dataclass(frozen=True, slots=True)
class Register:
    """One register: its size in bits and its type in the description's language (fixed sizes only: a pointer's would
    change with the architecture).
    """

    name: str
    bits: int
    type: str
    group: str = ""

    @property
    def size(self) -> int:
        """Bytes in the ``g`` packet."""
        return self.bits // 8


def _ints(names: tuple[str, ...], bits: int, group: str = "") -> tuple[Register, ...]:
    return tuple(Register(name, bits, f"int{bits}", group) for name in names)


_CORE = (
    *_ints((*WIDE, "rip"), 64),
    Register("eflags", 32, "eflags"),
    *_ints(SEGMENTS, 32),
    *(Register(f"st{n}", 80, "i387_ext") for n in range(8)),
    *_ints(X87_CONTROL, 32, "float"),
    *_ints((*NARROW, "eip"), 32),
)
_SSE = (*(Register(f"xmm{n}", 128, "vec128") for n in range(16)), Register("mxcsr", 32, "mxcsr", "vector"))
_BASES = _ints(("fs_base", "gs_base"), 64)
_SYSTEM = (
    Register("ip", 64, "int64"),  # the offset in CS, where rip and eip are linear addresses
    Register("cr0", 64, "cr0"),
    Register("cr2", 64, "int64"),
    Register("cr3", 64, "int64"),
    Register("cr4", 64, "cr4"),
    Register("cr8", 64, "int64"),
    Register("efer", 64, "efer"),
    *_ints(("k_gs_base", "cs_base", "ss_base", "ds_base", "es_base"), 64),
    *_ints(("gdtr_base", "idtr_base", "tr_base", "ldtr_base"), 64),
    *_ints(("gdtr_limit", "idtr_limit", "tr", "ldtr"), 32),
)

FEATURES = {
    "org.gnu.gdb.i386.core": _CORE,
    "org.gnu.gdb.i386.sse": _SSE,
    "org.gnu.gdb.i386.segments": _BASES,
    "org.rootmode.system": _SYSTEM,
}
REGISTERS = tuple(register for registers in FEATURES.values() for register in registers)
"""All registers, in the order of the ``g`` packet; the index is gdb's number of the register."""

_FLAGS = {
    "eflags": (4, flags.RFLAGS_NAMES),
    "mxcsr": (4, flags.MXCSR_NAMES),
    "cr0": (8, flags.CR0_NAMES),
    "cr4": (8, flags.CR4_NAMES),
    "efer": (8, flags.EFER_NAMES),
}
"""Types whose bits have names: their bytes, and the bits."""

_VECTOR = """<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>
<vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>
<vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>
<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>
<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/>
<field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>"""


@cache
def target_xml(bits: int) -> bytes:
    """The description as gdb reads it, for a CPU that runs code of 16, 32 or 64 bits."""
    features = "\n".join(_feature(name, registers, bits) for name, registers in FEATURES.items())
    return (
        '<?xml version="1.0"?>\n<!DOCTYPE target SYSTEM "gdb-target.dtd">\n<target version="1.0">\n'
        f"<architecture>{ARCHITECTURES[bits]}</architecture>\n<osabi>none</osabi>\n{features}\n</target>\n"
    ).encode()


def _feature(name: str, registers: tuple[Register, ...], bits: int) -> str:
    types = [_flags(kind) for kind in _FLAGS if any(register.type == kind for register in registers)]
    if any(register.type == "vec128" for register in registers):
        types.append(_VECTOR)
    lines = [*types, *(_register(register, bits) for register in registers)]
    return f'<feature name="{name}">\n' + "\n".join(lines) + "\n</feature>"


def _flags(kind: str) -> str:
    size, bits = _FLAGS[kind]
    places = {name: bit.bit_length() - 1 for name, bit in bits.items()}
    fields = "".join(f'<field name="{name}" start="{at}" end="{at}"/>' for name, at in places.items())
    return f'<flags id="{kind}" size="{size}">{fields}</flags>'


def _register(register: Register, bits: int) -> str:
    kind = register.type
    if bits != 64 and register in _SSE[8:16]:
        kind = "v2i64"  # i386 does not know these; a vector is not shown among the general registers
    group = f' group="{register.group}"' if register.group else ""
    return f'<reg name="{register.name}" bitsize="{register.bits}" type="{kind}"{group}/>'
