"""What the translator is kept from: instructions that the manual refuses, and blocks that run on into another page.

LOCK is for an instruction that reads, changes and writes memory, one of a list (AMD64 APM volume 3, 1.2.5); before any
other it is #UD. Unicorn ignores it before most, takes MOVBE of a register, and VEX for instructions of SSE. SSE and MMX
are told from nothing by a table (`sse_and_mmx`). The translator is left then as if it had given up, and the run loop
gives #UD to the instruction (`kernels.stopping.emergency`).

As the instruction is seen here before the translator reads it, notes are left of what it would take for another
(`kernels.translation.misread`).

LOCK NEG is translated without LOCK: Unicorn would take its flags from what was in memory before.

CMPXCHG8B and CMPXCHG16B take the flags that they keep from how these are derived, which they are not told
(`lazy_flags`).

LOOPE and LOOPNE begin a block. In the middle of one, Unicorn computes the pending flags only behind the branch that is
taken when the count is over, and they were lost there.
"""

from __future__ import annotations

from hypervisor.arch.flags import RFLAGS_VM
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld8, ld32, ld64, st32, st64
from hypervisor.engine.kernels.memory.code_bytes import fetch
from hypervisor.engine.kernels.stopping.idle import code_at
from hypervisor.engine.kernels.stopping.in_place import block_of
from hypervisor.engine.kernels.translation.lazy_flags import tell
from hypervisor.engine.kernels.translation.memory_operand import begin as begin_operand
from hypervisor.engine.kernels.translation.misread import (
    IGNORED,
    NARROW,
    PUSHED,
    SIZED,
    UNSIZED,
    is_bextr,
    is_enter,
    is_ins,
    is_integer,
    is_pdep,
    is_ret,
    note,
)
from hypervisor.engine.kernels.translation.misread import begin as begin_reading
from hypervisor.engine.kernels.translation.sse_and_mmx import (
    PREDICATE,
    begin,
    entry_of,
    forget,
    is_none,
    is_off,
    operand_length,
    show,
)

_CPU_UC, _OURS, _TO_ENV, _PC_NEXT = l_.CPU_UC, l_.UC_NO_EXIT_REQUEST, l_.CPU_TO_ENV, l_.DISAS_PC_NEXT
_HFLAGS, _CS64, _PC_FIRST, _IS_JMP = l_.HFLAGS, l_.HF_CS64, l_.DISAS_PC_FIRST, l_.DISAS_IS_JMP
_RESTING, _REST_END = b_.RESTING, b_.REST_END
_CS_BASE, _BEYOND = l_.SEGS + l_.SEG_SIZE * l_.CS + l_.SEG_BASE, b_.BEYOND
_SS32, _CS32, _PE, _VM, _EFLAGS = l_.HF_SS32, l_.HF_CS32, l_.HF_PE, RFLAGS_VM, l_.EFLAGS
_LONGEST_INSTRUCTION = 15
_LOCK, _REP = 0xF0, 0xF3

_OPERAND, _ADDRESS = 1, 2

UNDEFINED, ENDED, MEDIA = -1, 1, 2


@kernel
def _byte(env, pc, here, n):  # type: ignore[no-untyped-def]
    """Byte ``n`` of the instruction at linear ``pc``, whose page is at ``here - (pc & 0xFFF)``; -1 if it faults."""
    if here and (pc & 0xFFF) + n < 4096:
        return ld8(here + n)
    return fetch(block_of(env), pc, n)


@kernel
def _takes_lock(opcode, modrm):  # type: ignore[no-untyped-def]
    operation = (modrm >> 3) & 7
    if modrm >= 0xC0 or modrm < 0:  # a register
        return False
    if opcode < 0x40:  # ADD, OR, ADC, SBB, AND, SUB and XOR, but not CMP, to memory
        return opcode & 7 <= 1 and opcode < 0x38
    if opcode >= 0x80 and opcode <= 0x83:
        return operation != 7
    if opcode == 0x86 or opcode == 0x87:  # XCHG
        return True
    if opcode == 0xF6 or opcode == 0xF7:  # NOT, NEG
        return operation == 2 or operation == 3
    if opcode == 0xFE or opcode == 0xFF:  # INC, DEC
        return operation <= 1
    if opcode == 0x0FAB or opcode == 0x0FB3 or opcode == 0x0FBB:  # BTS, BTR, BTC
        return True
    if opcode == 0x0FBA:
        return operation >= 5
    if opcode == 0x0FB0 or opcode == 0x0FB1 or opcode == 0x0FC0 or opcode == 0x0FC1:  # CMPXCHG, XADD
        return True
    return opcode == 0x0FC7 and operation == 1  # CMPXCHG8B, CMPXCHG16B


@kernel
def _without_lock(b, env, pc, here, prefixes):  # type: ignore[no-untyped-def]
    """LOCK is seen as REP, which says nothing of an instruction that is no string's: nobody else uses the memory while
    a block runs.
    """
    for i in range(prefixes):
        if _byte(env, pc, here, i) == _LOCK:
            show(b, pc, i, _LOCK ^ _REP)
    return 0


@kernel
def _move(b, pc, n, rex, modrm, locked):  # type: ignore[no-untyped-def]
    """MOV of a constant, with its opcode at byte ``n``: Unicorn takes REX.R for a bit of the opcode's extension, and
    XABORT and XBEGIN, which this processor does not have, for MOV.
    """
    if n == 15 or modrm < 0:
        return 0
    if locked or modrm >> 3 & 7:
        return UNDEFINED
    if rex & 0xF4 == 0x44:
        show(b, pc, n - 1, 4)
    return 0


@kernel
def _ins(b, context, env, at, opcode, mandatory, seen, rex):  # type: ignore[no-untyped-def]
    hflags = ld32(env + _HFLAGS)
    wide, big = hflags & _CS64, hflags & _CS32
    size = 1
    if opcode == 0x6D:
        size = 4 if (seen & _OPERAND == 0) == (big != 0) or (wide and rex & 8) else 2
    addresses = 4 if (seen & _ADDRESS == 0) == (big != 0) else 2
    if wide:
        addresses = 4 if seen & _ADDRESS else 8
    return is_ins(b, context, at, size, mandatory & 0xFE == 0xF2, addresses)


@kernel
def _vex(b, context, env, pc, here, n):  # type: ignore[no-untyped-def]
    """VEX at byte ``n``: of the instructions that have it, this processor has those of BMI1 and BMI2 alone."""
    hflags = ld32(env + _HFLAGS)
    if hflags & _CS32 == 0 or ld64(env + _EFLAGS) & _VM:
        return 0  # LES, LDS
    first, second, third = _byte(env, pc, here, n), _byte(env, pc, here, n + 1), _byte(env, pc, here, n + 2)
    if second < 0 or (hflags & _CS64 == 0 and second < 0xC0):
        return 0
    if first == 0xC5 or hflags & _PE == 0:
        return UNDEFINED
    opcode = _byte(env, pc, here, n + 3)
    if third < 0 or opcode < 0:
        return 0
    prefix = third & 3
    if second & 0x1F == 2:
        known = (opcode & 0xFE == 0xF2 and prefix == 0) or (opcode == 0xF5 and prefix != 1)
        known = known or (opcode == 0xF6 and prefix == 3) or opcode == 0xF7
    else:  # RORX, without a second source
        known = second & 0x1F == 3 and opcode == 0xF0 and third & 0x7B == 0x7B
    if not known:
        return UNDEFINED
    is_integer(context)
    if second & 0x1F == 2 and opcode == 0xF7 and prefix == 0:
        is_bextr(context)
    if opcode == 0xF5 and prefix == 3 and (hflags & _CS64 == 0 or third < 0x80):
        is_pdep(context)
    if hflags & _CS64 == 0:
        note(b, context, pc + n + 1, NARROW)
    return 0


@kernel
def ends_before(b, context):  # type: ignore[no-untyped-def]
    """Whether the block is to end before the instruction that is to be translated next: it is the rest of one that
    ended there, or the instruction may lie on a page that the block has not come to. If that page cannot be fetched,
    Unicorn would give the fault to the whole block.

    This looks at addresses alone, never at what the TLB holds, because where blocks end decides when a guest is left.
    """
    first, pc = ld64(context + _PC_FIRST), ld64(context + _PC_NEXT)
    over = ld64(b + _RESTING) and pc == ld64(b + _REST_END)
    if pc == first or (over == 0 and pc >> 12 == first >> 12 and pc & 0xFFF <= 4096 - _LONGEST_INSTRUCTION):
        return False
    st32(context + _IS_JMP, l_.DISAS_TOO_MANY)
    return True


@kernel
def refuses(context, cpu):  # type: ignore[no-untyped-def]
    """What to do with the instruction that is to be translated next: 0 translate it, `UNDEFINED`, though Unicorn would
    not say so, `ENDED`: the block ends before it, or `MEDIA`: translate it and call `sse_and_mmx.done`.
    """
    if ld8(ld64(cpu + _CPU_UC) + _OURS) == 0:
        return 0
    env, pc = cpu + _TO_ENV, ld64(context + _PC_NEXT)
    b = block_of(env)
    if ends_before(b, context):
        return ENDED
    begin_operand(cpu)
    here = code_at(env, pc)
    forget(b)
    begin_reading(b, context)
    wide = ld32(env + _HFLAGS) & _CS64
    if wide == 0 and (pc - ld64(env + _CS_BASE)) >> 32:  # RIP must be cut first
        if pc == ld64(context + _PC_FIRST):
            st64(b + _BEYOND, 1)
            return UNDEFINED
        st32(context + _IS_JMP, l_.DISAS_TOO_MANY)
        return ENDED
    locked, n, byte, mandatory, kinds, seen, rex = False, 0, 0, 0, 0, 0, 0
    while n < 15:
        byte = _byte(env, pc, here, n)
        if byte == _LOCK:
            locked = True
        elif byte & 0xFE == 0xF2:
            mandatory = byte
            kinds |= 1 << (byte & 1)
        elif byte == 0x66:
            seen |= _OPERAND
            mandatory = mandatory or byte
            kinds |= 4
        elif byte == 0x67:
            seen |= _ADDRESS
        elif not (byte & 0xE7 == 0x26 or byte & 0xFE == 0x64 or (wide and byte & 0xF0 == 0x40)):
            break
        rex = byte if byte & 0xF0 == 0x40 else 0
        n += 1
    if n == 15:
        return 0
    if byte & 0xFE == 0xE0 and pc != ld64(context + _PC_FIRST):
        st32(context + _IS_JMP, l_.DISAS_TOO_MANY)
        return ENDED
    if byte & 0xFE == 0xC6:
        return _move(b, pc, n, rex if wide else 0, _byte(env, pc, here, n + 1), locked)
    if byte & 0xFE == 0x9E:  # SAHF, LAHF
        if rex:
            note(b, context, pc + n - 1, IGNORED)
    elif byte & 0xFE == 0x6C:
        _ins(b, context, env, pc + n, byte, mandatory, seen, rex)
    elif byte == 0x9C:  # PUSHF
        if ld64(env + _EFLAGS) & _VM:
            note(b, context, pc + n, PUSHED)
    elif byte == 0xC2:  # RET
        is_ret(context, _byte(env, pc, here, n + 1) | _byte(env, pc, here, n + 2) << 8)
    elif byte == 0xC8:  # ENTER
        hflags = ld32(env + _HFLAGS)
        big = hflags & _CS32 != 0
        if wide == 0 and (big == (seen & _OPERAND == 0)) != (hflags & _SS32 != 0):
            is_enter(context)
    elif byte & 0xFE == 0xC4 and not locked:
        return _vex(b, context, env, pc, here, n)
    if not (locked or byte == 0x0F):
        return 0
    prefixes = n
    opcode = byte
    if byte == 0x0F:
        n += 1
        opcode = 0x0F00 | _byte(env, pc, here, n)
        if opcode == 0x0F38 or opcode == 0x0F3A:
            n += 1
            opcode = (opcode & 0xFF) << 8 | _byte(env, pc, here, n)
    modrm = _byte(env, pc, here, n + 1)
    if byte < 0 or opcode < 0 or modrm < 0:
        return 0  # it cannot be fetched, and that comes first
    if opcode == 0x0FC7:
        tell(b, context)
    if locked:
        if not _takes_lock(opcode, modrm):
            return UNDEFINED
        if opcode & 0xFE == 0xF6 and modrm & 0x38 == 0x18:  # NEG
            _without_lock(b, env, pc, here, prefixes)
        return 0
    entry = entry_of(b, opcode, mandatory)
    if entry == 0:
        if opcode == 0x0FB8 and mandatory == 0xF3:  # POPCNT
            note(b, context, pc + n, SIZED)
        elif opcode >> 4 == 0x38F:
            is_integer(context)
            if opcode <= 0x38F1:  # MOVBE, CRC32
                note(b, context, pc + n - 1, UNSIZED if mandatory == 0xF3 else SIZED)
            elif mandatory != 0x66:  # ADCX is 66h alone, ADOX is F3h
                note(b, context, pc + n - 1, UNSIZED)
        movbe = (opcode == 0x38F0 or opcode == 0x38F1) and mandatory != 0xF2  # beside CRC32
        return UNDEFINED if (opcode == 0x0FC3 or movbe) and modrm >= 0xC0 else 0  # MOVNTI
    if is_none(entry, opcode, mandatory, modrm) or is_off(env, entry):
        return UNDEFINED
    if kinds & (kinds - 1):  # of 66h, F2h and F3h the last one of F2h and F3h counts
        for i in range(prefixes):
            byte = _byte(env, pc, here, i)
            if byte == 0x66 or byte & 0xFE == 0xF2:
                show(b, pc, i, byte ^ mandatory)
    if opcode == PREDICATE:
        short = (seen & _ADDRESS != 0) == (ld32(env + _HFLAGS) & (_CS32 | _CS64) != 0)
        at = n + 1 + operand_length(modrm, _byte(env, pc, here, n + 2), short and not wide)
        byte = _byte(env, pc, here, at)
        if byte > 7:
            show(b, pc, at, byte & ~7)
    return MEDIA if begin(b, cpu, entry, opcode, modrm, mandatory) else 0


__all__ = ["refuses"]
