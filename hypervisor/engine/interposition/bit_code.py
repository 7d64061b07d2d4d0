"""BZHI, BEXTR, PDEP and ENTER as they are translated: pieces of machine code in front of what the translator calls.

BZHI (AMD64 APM volume 3): its carry is computed as "not below the operand's last bit", where "above it" is meant, and
an index above it cleared that bit all the same. No other instruction puts a signed "less than" straight into what the
flags come from, so that comparison is known by it; it leaves a mark for the AND that follows, whose mask is made empty
where the carry is not.

BEXTR: an operand of 32 bits in a register was shifted with what lies above it, and a length beyond the operand's lost
the last bit. `refused` leaves a mark, the address of the translator's context. The operand is cut where the
start's eight bits are taken (``ext8u``); the length is left as it is (the second ``movcond``, of one register); and the
mask, one bit shifted by it less one (``subi``), is made of nothing less one where the length is above 63.

PDEP: a mask of 32 bits in a register went on into what lies above it. It is cut before the source is (``ext32u``).

ENTER wrote as much of BP as the stack's size says. Where `kernels.refused` has left BP's temporary, what is written to
it by ``ext32u`` is written by ``deposit``, and the other way round.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from hypervisor.engine import layout

_SETCOND, _LESS, _LESS_OR_EQUAL, _NOT_EQUAL = "tcg_gen_setcond_i64_x86_64", 2, 10, 9
_UNSIGNED_LESS_OR_EQUAL = 12
_ANDC, _MOVCOND, _CONSTANT = "tcg_gen_andc_i64_x86_64", "tcg_gen_movcond_i64_x86_64", "tcg_const_i64_x86_64"
_EXT8, _EXT32, _SUBTRACT = "tcg_gen_ext8u_i64_x86_64", "tcg_gen_ext32u_i64_x86_64", "tcg_gen_subi_i64_x86_64"
_DEPOSIT = "tcg_gen_deposit_i64_x86_64"

NAMES = (_SETCOND, _ANDC, _MOVCOND, _EXT8, _EXT32, _SUBTRACT, _DEPOSIT)
"""The functions of the translator that are called through these pieces."""


def _call(address: int) -> bytes:
    return b"\x48\xb8" + struct.pack("<Q", address) + b"\xff\xd0"  # mov rax, address; call rax


def _if_bextr(inside: bytes) -> bytes:
    # cmp qword [rdi + mark], 0; je over; inside; over:
    return b"\x48\x83\xbf" + struct.pack("<IBBB", layout.TCG_BEXTR, 0, 0x74, len(inside)) + inside


def _if_enter(inside: bytes) -> bytes:
    # cmp rsi, [rdi + mark]; jne over; inside; over:
    return b"\x48\x3b\xb7" + struct.pack("<IBB", layout.TCG_ENTER, 0x75, len(inside)) + inside


def pieces(address: Callable[[str], int], jump: Callable[[int], bytes]) -> dict[str, bytes]:
    """The pieces by the function that they stand in front of."""
    # cmp esi, less; jne over; cmp rdx, [rdi + cc_src]; jne over; mov esi, less or equal; mov [rdi + unused], rdi; over:
    setcond = (
        struct.pack("<BBBBB", 0x83, 0xFE, _LESS, 0x75, 21) + b"\x48\x3b\x97"
        + struct.pack("<IBBBI", layout.TCG_CC_SRC, 0x75, 12, 0xBE, _LESS_OR_EQUAL)
        + b"\x48\x89\xbf" + struct.pack("<I", layout.TCG_UNUSED)
    )  # fmt: skip
    # mov qword [rdi + unused], 0; push rdi, rsi, rdx, rcx, rcx; xor esi, esi; constant; mov rdi, [rsp + 32]
    # mov rdx, [rsp + 8]; mov esi, not equal; mov rcx, [rdi + cc_src]; mov r8, rax; mov r9, rdx
    # push rax, rax (v2 is on the stack); movcond; pop rcx, rcx, rcx, rcx, rdx, rsi, rdi
    empty = (
        b"\x48\xc7\x87" + struct.pack("<II", layout.TCG_UNUSED, 0) + b"\x57\x56\x52\x51\x51"
        + b"\x31\xf6" + _call(address(_CONSTANT))
        + b"\x48\x8b\x7c\x24\x20\x48\x8b\x54\x24\x08\xbe" + struct.pack("<I", _NOT_EQUAL)
        + b"\x48\x8b\x8f" + struct.pack("<I", layout.TCG_CC_SRC) + b"\x49\x89\xc0\x49\x89\xd1\x50\x50"
        + _call(address(_MOVCOND)) + b"\x59\x59\x59\x59\x5a\x5e\x5f"
    )  # fmt: skip
    # cmp [rdi + unused], rdi; jne over; empty; over:
    andc = b"\x48\x39\xbf" + struct.pack("<IBB", layout.TCG_UNUSED, 0x75, len(empty)) + empty
    # mov rax, [rdi + mark]; cmp dword [rax + operand], 64 bits; je over; push rdi, rsi, rdx; mov rsi, [rax + T0]
    # mov rdx, rsi; ext32u; pop rdx, rsi, rdi; over:
    cut = (
        b"\x57\x56\x52\x48\x8b\xb0" + struct.pack("<I", layout.DISAS_T0) + b"\x48\x89\xf2"
        + _call(address(_EXT32)) + b"\x5a\x5e\x5f"
    )  # fmt: skip
    operand = (
        b"\x48\x8b\x87" + struct.pack("<I", layout.TCG_BEXTR) + b"\x83\x78"
        + struct.pack("<BBBB", layout.DISAS_OPERAND, layout.MO_64, 0x74, len(cut)) + cut
    )  # fmt: skip
    # mov rax, [rdi + mark of PDEP]; test rax, rax; je over; cut; over:
    both = b"\x48\x8b\x87" + struct.pack("<I", layout.TCG_PDEP) + b"\x48\x85\xc0\x74" + bytes((len(cut),)) + cut
    # mov rcx, rdx; mov rdx, rsi; xor r8d, r8d; mov r9d, 16; deposit
    low = b"\x48\x89\xd1\x48\x89\xf2\x45\x31\xc0\x41\xb9" + struct.pack("<I", 16) + jump(address(_DEPOSIT))
    # mov rdx, rcx; ext32u
    all_of_it = b"\x48\x89\xca" + jump(address(_EXT32))
    # cmp rdx, rcx; jne over; ret; over:
    length = b"\x48\x39\xca\x75\x01\xc3"
    # push rdi, rsi, rdx, rcx, rbx; mov esi, 63; constant; mov rbx, rax; mov rdi, [rsp + 32]; xor esi, esi; constant
    # push rax, rax; mov rdi, [rsp + 48]; mov rcx, [rdi + mark]; mov rcx, [rcx + A0]; mov rdx, [rsp + 40]
    # mov r8, rbx; mov r9, rdx; mov esi, less or equal; movcond; pop rax, rax, rbx, rcx, rdx, rsi, rdi
    mask = (
        b"\x57\x56\x52\x51\x53\xbe" + struct.pack("<I", 63) + _call(address(_CONSTANT)) + b"\x48\x89\xc3"
        + b"\x48\x8b\x7c\x24\x20\x31\xf6" + _call(address(_CONSTANT)) + b"\x50\x50\x48\x8b\x7c\x24\x30"
        + b"\x48\x8b\x8f" + struct.pack("<I", layout.TCG_BEXTR)
        + b"\x48\x8b\x89" + struct.pack("<I", layout.DISAS_A0) + b"\x48\x8b\x54\x24\x28"
        + b"\x49\x89\xd8\x49\x89\xd1\xbe" + struct.pack("<I", _UNSIGNED_LESS_OR_EQUAL) + _call(address(_MOVCOND))
        + b"\x58\x58\x5b\x59\x5a\x5e\x5f"
    )  # fmt: skip
    code = {
        _SETCOND: setcond,
        _ANDC: andc,
        _EXT8: _if_bextr(operand),
        _EXT32: _if_enter(low) + both,
        _DEPOSIT: _if_enter(all_of_it),
        _MOVCOND: _if_bextr(length),
        _SUBTRACT: _if_bextr(mask),
    }
    return {name: piece + jump(address(name)) for name, piece in code.items()}
