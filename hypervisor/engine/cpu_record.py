"""A vCPU's state as a record: its registers by their names, and the block's words for it.

It is taken out and put back register by register, so it holds nothing of the host: neither addresses that the emulator
keeps beside the guest's registers nor what lies in the unused halves of XMM slots; and what comes from outside cannot
bring any in. Hidden flags are derived from it anew.
"""

from __future__ import annotations

from functools import lru_cache
from operator import lt

from hypervisor.arch.flags import RFLAGS_FIXED, RFLAGS_LOADABLE
from hypervisor.engine import block
from hypervisor.engine.block import BLOOM_BITS
from hypervisor.engine.state import SEGMENTS, WHOLE, State
from hypervisor.engine.vcpu_state import Image, VcpuState
from hypervisor.engine.vcpu_tlb import ENTRY, PLACES, VcpuTlb
from hypervisor.state import blob, flag, number, numbers, parts, record, words

_MASK64 = (1 << 64) - 1
_AGE, _FIRST_AGE, LAST_AGE = "guest_tlb_age", 1, 1 << 30
_OF_ENGINE = frozenset(("number", "dirty", _AGE, "previous"))
"""Words that say which vCPU it is, what has been derived from the rest, how often its TLB has been flushed, which may
be once for several reasons, and what only the host's coverage knows.
"""
_KEPT = [name for name in block.names()[block.VCPU >> 3 : block.VCPU_END >> 3] if name not in _OF_ENGINE]
_REGISTERS, _WORDS = frozenset(WHOLE), frozenset(_KEPT)
_TABLES = ("gdtr", "idtr")


@record
class SegmentState:
    """A segment register with its hidden part, as `Segment`."""

    selector: int = number(0, 0xFFFF)
    base: int = number(0, _MASK64)
    limit: int = number(0, 0xFFFFFFFF)
    attributes: int = number(0, 0xFFF)


@record
class TableState:
    """GDTR or IDTR."""

    base: int = number(0, _MASK64)
    limit: int = number(0, 0xFFFF)


@record
class CpuState:
    """``registers`` are those of `State.get`; ``segments`` are in the order of `SEGMENTS`; ``words`` are those
    of the block. The x87's registers are in the order of the hardware; ``x87_empty`` has a bit for each that is empty;
    ``x87_code`` and so on are `X87Pointers`.
    ``tlb`` and ``tlb_large`` are as `VcpuTlb` has them; nothing is in a TLB that is about to be flushed.
    """

    registers: dict[str, int] = words(len(WHOLE))
    segments: list[SegmentState] = parts(SegmentState, len(SEGMENTS))
    tables: list[TableState] = parts(TableState, len(_TABLES))
    interrupt_shadow: bool = flag()
    x87_top: int = number(0, 7)
    x87_status: int = number(0, 0xFFFF)
    x87_control: int = number(0, 0xFFFF)
    x87_empty: int = number(0, 0xFF)
    x87: list[int] = numbers(8, 0, (1 << 80) - 1, exact=True)
    x87_code: int = number(0, 0xFFFF)
    x87_instruction: int = number(0, _MASK64)
    x87_data: int = number(0, 0xFFFF)
    x87_operand: int = number(0, _MASK64)
    mxcsr: int = number(0, 0xFFFFFFFF)
    xmm: list[int] = numbers(16, 0, (1 << 128) - 1, exact=True)
    words: dict[str, int] = words(len(_KEPT))
    tlb: bytes = blob(ENTRY * PLACES)
    tlb_large: list[int] = numbers(BLOOM_BITS // 64, 0, _MASK64, exact=True)


def cpu_state(state: State, tlb: VcpuTlb) -> CpuState:
    """All that a vCPU's registers are, wherever they lie. Between two blocks only."""
    x87, pointers = state.x87_words(), state.x87_pointers()
    return CpuState(
        registers={name: state.get(name) for name in WHOLE},
        segments=[SegmentState(*state.segment(name)) for name in SEGMENTS],
        tables=[TableState(*state.table(name)) for name in _TABLES],
        interrupt_shadow=state.interrupt_shadow,
        x87_top=x87.top,
        x87_status=x87.status,
        x87_control=x87.control,
        x87_empty=x87.empty,
        x87=[state.x87_register(n) for n in range(8)],
        x87_code=pointers.code,
        x87_instruction=pointers.instruction,
        x87_data=pointers.data,
        x87_operand=pointers.operand,
        mxcsr=x87.mxcsr,
        xmm=[state.xmm(n) for n in range(16)],
        words={name: state.word(name) for name in _KEPT},
        tlb=b"" if state.flushes else tlb.entries(state.word(_AGE)),
        tlb_large=[0] * (BLOOM_BITS // 64) if state.flushes else tlb.large(),
    )


def problem(record: CpuState) -> str | None:
    """What is wrong with a record, as the end of a sentence. Registers may have values that no instruction would store,
    as when a handler writes them.
    """
    for have, known in ((record.registers, _REGISTERS), (record.words, _WORDS)):
        if have.keys() != known:
            return f"its registers are not {', '.join(sorted(known ^ have.keys()))}"
    if record.registers["rflags"] & ~RFLAGS_LOADABLE != RFLAGS_FIXED or record.registers["sysenter_cs"] >> 32:
        return "RFLAGS or SYSENTER_CS have a value that they cannot have"
    if not _can_be(record.tlb):
        return "its TLB has an entry that cannot be"
    return None


@lru_cache(maxsize=8)  # that of a snapshot is put back again and again
def _can_be(tlb: bytes) -> bool:
    """Whether packed entries lie at places that there are, each at one of its own."""
    if len(tlb) % ENTRY:
        return False
    words = memoryview(tlb).cast("Q")
    places, seconds = words[::3].tolist(), words[2::3].tolist()
    return all(map(lt, places, [*places[1:], PLACES])) and not max(seconds, default=0) >> 32


def put_back(state: State, tlb: VcpuTlb, record: CpuState) -> None:
    """Make a vCPU's registers those of a record. Not while it is on a pCPU."""
    state.put_words(record.registers, record.words, record.xmm, record.x87)
    state.put_segments(record.segments, record.tables)
    state.interrupt_shadow = record.interrupt_shadow
    state.set_x87_words(record.x87_top, record.x87_status, record.x87_control, record.x87_empty, record.mxcsr)
    state.set_x87_pointers(record.x87_code, record.x87_instruction, record.x87_data, record.x87_operand)
    state.set_word("previous", 0)
    state.set_word(_AGE, _FIRST_AGE)
    tlb.put_back(_FIRST_AGE, record.tlb, record.tlb_large)
    state.dirty, state.flushes = True, False


def put_back_again(vcpu: VcpuState, image: Image, record: CpuState) -> None:
    """The same for a vCPU whose memory was this when `put_back` had made it so."""
    state, tlb = vcpu.registers, vcpu.tlb
    age = state.word(_AGE) + 1
    vcpu.put_image(image)
    if age < LAST_AGE:
        state.set_word(_AGE, age)
        tlb.put_over(age, record.tlb, record.tlb_large)
    else:
        tlb.put_back(_FIRST_AGE, record.tlb, record.tlb_large)
    state.dirty, state.flushes = True, False


__all__ = [
    "CpuState",
    "SegmentState",
    "TableState",
    "cpu_state",
    "problem",
    "put_back",
    "put_back_again",
]
