"""A small decoder for the instructions that trap: length, operands, effective address (APM volume 3, chapter 1).

SVM without decode assists reports which instruction left the guest, not its operands. The decoder knows the encodings
of system instructions, of those that load a selector, of x87's, and the prefixes they may carry; it is tested against
capstone. Of immediates it knows those of INT n, IN/OUT and far transfers.
"""

from __future__ import annotations

from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld8, ld32, ld64, s64, st64
from hypervisor.engine.kernels.by_pointer import translate
from hypervisor.engine.kernels.memory.access import host_address, linear_rip
from hypervisor.engine.kernels.memory.code_bytes import fetch
from hypervisor.engine.kernels.memory.page_walk import FETCH, PEEK, USER

_ENV, _HFLAGS, _SEGS, _SEG, _BASE = b_.ENV, l_.HFLAGS, l_.SEGS, l_.SEG_SIZE, l_.SEG_BASE
_W_VECTOR = b_.W_VECTOR
_D_LENGTH, _D_OPCODE, _D_MODRM, _D_REG, _D_RM = b_.D_LENGTH, b_.D_OPCODE, b_.D_MODRM, b_.D_REG, b_.D_RM
_D_SIZE, _D_ADDRESS_SIZE, _D_REPEAT = b_.D_SIZE, b_.D_ADDRESS_SIZE, b_.D_REPEAT
_SS, _DS, _FS, _GS = l_.SS, l_.DS, l_.FS, l_.GS
_D_EA, _D_IMMEDIATE = b_.D_EA, b_.D_IMMEDIATE
_EIP, _REGS, _CPL, _CS64, _CS32 = l_.EIP, l_.REGS, l_.HF_CPL, l_.HF_CS64, l_.HF_CS32
_RBX, _RBP, _RSI, _RDI = 3, 5, 6, 7  # numbers of registers


@kernel
def _signed(value, bits):  # type: ignore[no-untyped-def]
    return value - (1 << bits) if value >> (bits - 1) else value


@kernel
def _straight(b, at):  # type: ignore[no-untyped-def]
    """The process address of the instruction at linear ``at``, 0 where its bytes must be fetched one by one."""
    how = PEEK | (USER if ld32(ld64(b + _ENV) + _HFLAGS) & _CPL == 3 else 0)
    gpa = translate(b, at, FETCH, how)
    return 0 if ld64(b + _W_VECTOR) >= 0 else host_address(b, gpa)


@kernel
def _byte(b, host, at, position):  # type: ignore[no-untyped-def]
    """`fetch`, without a walk while the instruction's page lasts."""
    if host and (at & 0xFFF) + position < 4096:
        return ld8(host + position)
    return fetch(b, at, position)


@kernel
def _little(b, host, at, position, count):  # type: ignore[no-untyped-def]
    value = 0
    for i in range(count):
        value |= (_byte(b, host, at, position + i) & 0xFF) << (8 * i)
    return value


@kernel
def _register(b, number):  # type: ignore[no-untyped-def]
    return ld64(ld64(b + _ENV) + _REGS + 8 * number)


@kernel
def _done(b, length):  # type: ignore[no-untyped-def]
    """An instruction has at most 15 bytes."""
    length = length if length <= 15 else 0
    st64(b + _D_LENGTH, length)
    return length


@kernel
def decode(b):  # type: ignore[no-untyped-def]
    """Decode the instruction at CS:RIP into the D_ words; its length in bytes, 0 if it is none that we know to read."""
    env = ld64(b + _ENV)
    hflags = ld32(env + _HFLAGS)
    at = linear_rip(b)
    host = _straight(b, at)
    code64 = hflags & _CS64
    code32 = hflags & _CS32
    st64(b + _D_LENGTH, 0)
    st64(b + _D_OPCODE, -1)
    operand, address, segment, repeat, rex = 0, 0, -1, 0, 0
    n = 0
    byte = 0
    while n < 15:
        byte = _byte(b, host, at, n)
        if code64 and byte & 0xF0 == 0x40:
            rex = byte
            n += 1
            continue
        if byte == 0x66:
            operand = 1
        elif byte == 0x67:
            address = 1
        elif byte == 0xF2 or byte == 0xF3:
            repeat = byte
        elif byte == 0x26 or byte == 0x2E or byte == 0x36 or byte == 0x3E:
            if code64 == 0:  # ignored in 64-bit mode, where an FS or GS override before it stays
                segment = (byte >> 3) & 3
        elif byte == 0x64:
            segment = _FS
        elif byte == 0x65:
            segment = _GS
        elif byte != 0xF0:
            break
        rex = 0  # a REX prefix counts only right before the opcode
        n += 1
    if byte < 0:
        return 0
    n += 1
    opcode = byte
    if byte == 0x0F:
        byte = _byte(b, host, at, n)
        if byte < 0:
            return 0
        opcode = 0x0F00 | byte
        n += 1
    size = 8 if rex & 8 else ((2 if operand else 4) if code64 or code32 else (4 if operand else 2))
    if code64:
        width = 4 if address else 8
    elif code32:
        width = 2 if address else 4
    else:
        width = 4 if address else 2
    st64(b + _D_OPCODE, opcode)
    st64(b + _D_REPEAT, repeat)
    st64(b + _D_SIZE, size)
    st64(b + _D_ADDRESS_SIZE, width)
    st64(b + _D_MODRM, -1)
    st64(b + _D_EA, 0)
    st64(b + _D_IMMEDIATE, 0)
    if opcode == 0xCD or opcode & 0xFFFC == 0xE4:  # INT n, IN/OUT with an immediate port
        byte = _byte(b, host, at, n)
        if byte < 0:
            return 0
        st64(b + _D_IMMEDIATE, byte)
        n += 1
        return _done(b, n)
    modrm_follows = (
        opcode == 0x0F00 or opcode == 0x0F01 or opcode & 0xFFFC == 0x0F20 or opcode == 0x0FC7 or opcode == 0x0FAE
        or opcode == 0x63 or opcode == 0x8C or opcode == 0x8E or opcode == 0xC4 or opcode == 0xC5
        or opcode & 0xFFFE == 0x0FB2 or opcode & 0xFFFE == 0x0FB4 or opcode & 0xFFFE == 0x0F02 or opcode == 0xFF
        or opcode == 0x0F0D or opcode & 0xF8 == 0xD8
    )  # fmt: skip
    if not modrm_follows:
        if opcode == 0xEA or opcode == 0x9A:
            n += 2 + size
        elif opcode == 0xCA:
            n += 2
        return _done(b, n)
    modrm = _byte(b, host, at, n)
    if modrm < 0:
        return 0
    n += 1
    mod, rm = modrm >> 6, modrm & 7
    if opcode & 0xFFFE == 0xC4 and (code64 or mod == 3):  # no LES or LDS but a VEX prefix
        st64(b + _D_OPCODE, -1)
        return 0
    st64(b + _D_MODRM, modrm)
    st64(b + _D_REG, (modrm >> 3 & 7) | (rex & 4) << 1)
    st64(b + _D_RM, rm | (rex & 1) << 3)
    if mod == 3 or opcode & 0xFFFC == 0x0F20:  # MOV CR and MOV DR ignore mod
        return _done(b, n)
    ea = 0
    stack = False
    relative = False
    if width == 2:
        if rm == 0:
            ea = _register(b, _RBX) + _register(b, _RSI)
        elif rm == 1:
            ea = _register(b, _RBX) + _register(b, _RDI)
        elif rm == 2:
            ea = _register(b, _RBP) + _register(b, _RSI)
            stack = True
        elif rm == 3:
            ea = _register(b, _RBP) + _register(b, _RDI)
            stack = True
        elif rm == 4:
            ea = _register(b, _RSI)
        elif rm == 5:
            ea = _register(b, _RDI)
        elif rm == 6:
            if mod != 0:
                ea = _register(b, _RBP)
                stack = True
        else:
            ea = _register(b, _RBX)
        if mod == 1:
            ea += _signed(_little(b, host, at, n, 1), 8)
            n += 1
        elif mod == 2 or (rm == 6 and mod == 0):
            ea += _little(b, host, at, n, 2)
            n += 2
        ea &= 0xFFFF
    else:
        if rm == 4:
            sib = _byte(b, host, at, n) & 0xFF
            n += 1
            base, index = sib & 7, (sib >> 3 & 7) | (rex & 2) << 2
            if index != 4:
                ea = _register(b, index) << (sib >> 6)
            if base == 5 and mod == 0:
                ea += _signed(_little(b, host, at, n, 4), 32)
                n += 4
            else:
                ea += _register(b, base | (rex & 1) << 3)
                stack = base == 4 or base == 5  # the segment matters outside 64-bit mode only, where there is no REX
        elif rm == 5 and mod == 0:
            ea = _signed(_little(b, host, at, n, 4), 32)
            n += 4
            relative = code64 != 0
        else:
            ea = _register(b, rm | (rex & 1) << 3)
            stack = rm == 5
        if mod == 1:
            ea += _signed(_little(b, host, at, n, 1), 8)
            n += 1
        elif mod == 2:
            ea += _signed(_little(b, host, at, n, 4), 32)
            n += 4
        if relative:
            ea += ld64(env + _EIP) + n
        if width == 4:
            ea &= 0xFFFFFFFF
    if segment < 0:
        segment = _SS if stack else _DS
    if code64 == 0 or segment >= _FS:
        ea += ld64(env + _SEGS + _SEG * segment + _BASE)
    if code64 == 0:
        ea &= 0xFFFFFFFF
    st64(b + _D_EA, s64(ea))
    return _done(b, n)
