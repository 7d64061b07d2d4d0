"""Instructions that Unicorn's translator takes for others, and what it is told when it reads their bytes.

The translator reads an instruction byte by byte (``cpu_ldub_code``). Where it would go wrong, `refused.refuses`, which
has seen the whole instruction before, leaves a note of the byte at which it is to be put right, and of how:

- `IGNORED`: a prefix that means nothing here is read as one that does nothing: REX before SAHF and LAHF, for which
  Unicorn would take SPL instead of AH.
- `SIZED`, `UNSIZED`: instructions whose operand size Unicorn takes from the 66h prefix alone (POPCNT, CRC32, MOVBE),
  or which it tells apart by it although F2h or F3h goes before (ADCX and ADOX).
- `NARROW`: VEX outside 64-bit mode, where there are eight registers (AMD64 APM volume 3, 1.2.7).
- `CHECKED`: INS outside the privilege for ports. Unicorn writes to the memory operand before it reads the port; the
  permission comes before both (APM volume 3, INS), so generated code asks for it first.
- `PUSHED`: PUSHF in virtual-8086 mode, which shows VM clear (`kernels.translation.calls`).

Integer instructions among the opcodes of SSE do not heed CR0.EM, CR0.TS and CR4.OSFXSR (`is_integer`).
"""

from __future__ import annotations

from hypervisor.arch.flags import RFLAGS_IOPL, RFLAGS_IOPL_SHIFT
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import call2, call5, kernel, ld32, ld64, st32, st64
from hypervisor.engine.kernels.stopping.in_place import block_of, restore
from hypervisor.engine.kernels.translation.calls import redirect
from hypervisor.engine.kernels.vmexit.io import allowed

_AT, _WHAT, _CONTEXT, _CHECK, _SCRATCH = (
    b_.MISREAD_AT, b_.MISREAD, b_.MISREAD_CONTEXT, b_.MISREAD_CHECK, b_.SCRATCH,
)  # fmt: skip
_PREFIX, _DATA, _OPERAND, _MO_16 = l_.DISAS_PREFIX, l_.PREFIX_DATA, l_.DISAS_OPERAND, l_.MO_16
_FLAGS, _TB_FLAGS, _UC, _TCG, _ENV = l_.DISAS_FLAGS, l_.TB_FLAGS, l_.DISAS_UC, l_.UC_TCG_CONTEXT, l_.TCG_ENV
_HEEDED, _OSFXSR, _PE, _VM = l_.HF_EM | l_.HF_TS, l_.HF_OSFXSR, l_.HF_PE, l_.HF_VM
_BEXTR, _PDEP, _PUSHF, _RELEASED = l_.TCG_BEXTR, l_.TCG_PDEP, l_.TCG_PUSHF, l_.TCG_RELEASED
_ENTER, _EBP = l_.TCG_ENTER, l_.TCG_EBP
_RCX, _RDX = 8, 16

IGNORED, SIZED, UNSIZED, NARROW, NARROW_TOO, CHECKED, PUSHED = 1, 2, 3, 4, 5, 6, 7
_REPEATED = 8
_NO_PREFIX = 0x3E  # DS, which is what is meant anyway


@kernel
def begin(b, context):  # type: ignore[no-untyped-def]
    """Another instruction is to be translated: nothing is said of it so far."""
    st64(b + _AT, -1)
    st64(context + _FLAGS, ld32(ld64(context) + _TB_FLAGS))
    tcg = ld64(ld64(context + _UC) + _TCG)
    st64(tcg + _BEXTR, 0)
    st64(tcg + _PDEP, 0)
    st64(tcg + _PUSHF, 0)
    st64(tcg + _RELEASED, 0)
    st64(tcg + _ENTER, 0)
    return 0


@kernel
def note(b, context, at, what):  # type: ignore[no-untyped-def]
    """Have something done when the translator reads the byte at linear ``at``."""
    st64(b + _AT, at)
    st64(b + _WHAT, what)
    st64(b + _CONTEXT, context)
    return 0


@kernel
def is_integer(context):  # type: ignore[no-untyped-def]
    """The instruction does not use the state of SSE, though its opcode lies there."""
    st64(context + _FLAGS, (ld64(context + _FLAGS) & ~_HEEDED) | _OSFXSR)
    return 0


@kernel
def is_bextr(context):  # type: ignore[no-untyped-def]
    """The instruction is BEXTR, see `hypervisor.engine.interposition.bit_code`."""
    st64(ld64(ld64(context + _UC) + _TCG) + _BEXTR, context)
    return 0


@kernel
def is_pdep(context):  # type: ignore[no-untyped-def]
    """The instruction is PDEP, likewise. (With operands of 64 bits nothing of it is cut to 32.)"""
    st64(ld64(ld64(context + _UC) + _TCG) + _PDEP, context)
    return 0


@kernel
def is_enter(context):  # type: ignore[no-untyped-def]
    """The instruction is ENTER with operands of 16 bits on a stack of 32, or the other way round; see `bit_code`."""
    tcg = ld64(ld64(context + _UC) + _TCG)
    st64(tcg + _ENTER, ld64(tcg + _EBP))
    return 0


@kernel
def is_ret(context, released):  # type: ignore[no-untyped-def]
    """The instruction is a near RET that releases so many bytes: Unicorn takes the highest bit for a sign."""
    st64(ld64(ld64(context + _UC) + _TCG) + _RELEASED, (released & 0x8000) << 1)
    return 0


@kernel
def is_ins(b, context, at, size, repeated, address_size):  # type: ignore[no-untyped-def]
    """The instruction is INS, with its opcode at linear ``at``."""
    flags = ld64(context + _FLAGS)
    if flags & _PE and (flags & _VM or (flags & l_.HF_CPL) > (flags & RFLAGS_IOPL) >> RFLAGS_IOPL_SHIFT):
        st64(b + _CHECK, size | (_REPEATED if repeated else 0) | address_size << 4)
        note(b, context, at, CHECKED)
    return 0


@kernel
def check_port(b, what, place):  # type: ignore[no-untyped-def]
    """INS is at ``place`` in generated code: it faults unless it may use its port, or there is nothing to be read."""
    env = ld64(b + b_.ENV)
    if what & _REPEATED:
        left, size = ld64(env + _RCX), what >> 4
        if (left & ((1 << (8 * size)) - 1) if size < 8 else left) == 0:
            return 0
    restore(b, place)
    allowed(b, ld64(env + _RDX) & 0xFFFF, what & 7)
    return 0


@kernel
def _emit_check(b, context, table):  # type: ignore[no-untyped-def]
    """Emit a call of `check_port`: of ``check_iob``, which Unicorn never calls, with another address in it."""
    tcg = ld64(ld64(context + _UC) + _TCG)
    st64(b + _SCRATCH, tcg + ld64(tcg + _ENV))
    st64(b + _SCRATCH + 8, tcg + call2(ld64(table), tcg, ld64(b + _CHECK)))
    call5(ld64(table + 8), tcg, ld64(table + 16), 0, 2, b + _SCRATCH)
    return redirect(tcg, ld64(table + 24))


@kernel
def read_code(env, pc, byte, table):  # type: ignore[no-untyped-def]
    """What the translator gets for the byte at linear ``pc``, of which there is a note. The table has addresses: of
    ``tcg_const_i32``, ``tcg_gen_callN``, the helper ``check_iob``, and of what is to be called instead.
    """
    b = block_of(env)
    context, what = ld64(b + _CONTEXT), ld64(b + _WHAT)
    st64(b + _AT, -1)
    if what == IGNORED:
        return _NO_PREFIX
    if what == SIZED or what == UNSIZED:
        prefixes = ld32(context + _PREFIX) & ~_DATA
        if what == SIZED and ld32(context + _OPERAND) == _MO_16:
            prefixes |= _DATA
        st32(context + _PREFIX, prefixes)
        return byte
    if what == NARROW:  # B, then the highest bit of vvvv, both inverted
        note(b, context, pc + 1, NARROW_TOO)
        return byte | 0x20
    if what == NARROW_TOO:
        return byte | 0x40
    if what == PUSHED:
        st64(ld64(ld64(context + _UC) + _TCG) + _PUSHF, 1)
        return byte
    _emit_check(b, context, table)
    return byte


__all__ = [
    "begin",
    "check_port",
    "is_bextr",
    "is_enter",
    "is_ins",
    "is_integer",
    "is_pdep",
    "is_ret",
    "note",
    "read_code",
]
