"""Many short cases, one after the other: put the moment back, put a case's bytes in, run, note how it ended.

What a case comes to that Python has to decide (a device, a timer, a handler of its own, a crash) is not decided here:
it is noted as `IN_PYTHON`, and the next case begins. Nothing of a case is left for the next one, because all that a
case can change is put back: memory by what differs from a frozen map, the rest from copies.
"""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.arch.flags import RFLAGS_IF
from hypervisor.engine import block as b_
from hypervisor.engine import layout as l_
from hypervisor.engine.jit import kernel, ld8, ld64, st8, st32, st64
from hypervisor.engine.kernels.by_pointer import decode, own, run
from hypervisor.engine.kernels.memory.copying import copy
from hypervisor.engine.kernels.memory.freezing import put_back
from hypervisor.engine.kernels.memory.notes import written
from hypervisor.engine.kernels.memory.packed_tlb import unpack
from hypervisor.engine.kernels.repeating import case_loop as c_
from hypervisor.engine.kernels.stopping.rest_of_block import in_block
from hypervisor.engine.kernels.vmexit.raising import complete
from hypervisor.engine.kernels.vmexit.switch import load
from hypervisor.engine.shared_words.scheduling import turn_word, vcpu_word
from hypervisor.memory import map_words as m_

(
    _STATE, _EXTRA, _HOME, _AGE, _ENTRIES, _ENTRY_COUNT, _LARGE, _WAS, _LEVEL, _COPIES, _COPY_COUNT, _ZONES,
    _ZONES_COUNT, _PAGES, _OFFSET, _LENGTH_PAGES, _LENGTH_OFFSET, _LENGTH_REGISTER, _END, _UNTIL, _FIRST_PORT,
    _END_PORT, _CASES, _ENDS, _EDGES_AT, _EDGES_ROOM, _EDGES_USED, _NUMBER, _COUNT, _INSIDE,
) = (
    c_.loop_word(name)
    for name in (
        "state_at", "extra_at", "home_at", "age", "entries_at", "entry_count", "large_at", "now", "intr", "copies_at",
        "copy_count", "zones_at", "zones_count", "pages_at", "offset", "length_pages_at", "length_offset",
        "length_register", "end", "until", "first_port", "end_port", "cases_at", "ends_at", "edges_at", "edges_room",
        "edges_used", "number", "count", "inside",
    )
)  # fmt: skip
_COPY_ROW, _ZONES_ROW, _CASE_ROW, _END_ROW = c_.COPY_ROW, c_.ZONES_ROW, c_.CASE_ROW, c_.END_ROW
_IN_PYTHON, _PORT, _HALTED, _TIME = c_.IN_PYTHON, c_.PORT, c_.HALTED, c_.TIME
_DONE, _KICKED, _FULL, _NO_REGISTER = c_.DONE, c_.KICKED, c_.FULL, c_.NO_REGISTER

_ENV, _EIP, _EFLAGS, _REGS = b_.ENV, l_.EIP, l_.EFLAGS, l_.REGS
_NOW, _NEXT, _DEADLINE, _KICK, _INTR, _ARMED = b_.NOW, b_.NEXT, b_.DEADLINE, b_.KICK, b_.INTR, b_.ARMED
_FLOOR, _BLOCK_END, _COMPLETE, _NO_FRAME, _X_KIND = b_.FLOOR, b_.BLOCK_END, b_.COMPLETE, b_.NO_FRAME, b_.X_KIND
_SPINS, _SPINS_LEFT, _SPUN_AT, _WORKED, _SKIPPED = b_.SPINS, b_.SPINS_LEFT, b_.SPUN_AT, b_.WORKED, b_.SKIPPED
_FRAMES, _MAP, _RAM, _EDGES, _TURNS, _ROW = b_.FRAMES, b_.MAP, b_.RAM, b_.EDGES, b_.TURNS, b_.ROW
_X_INFO, _D_OPCODE, _RING, _RING_AT = b_.X_INFO, b_.D_OPCODE, b_.RING, b_.RING_AT
_RING_SIZE, _RING_MASK = 8 * b_.RING_WORDS, b_.RING_ENTRIES - 1
_VCPU_SIZE, _TO_AGE = b_.VCPU_END - b_.VCPU, b_.GUEST_TLB_AGE - b_.VCPU
_TLB, _LARGE_IN_TLB, _LARGE_SIZE = b_.GUEST_TLB_AT, b_.GUEST_TLB_BLOOM_AT, b_.BLOOM_BITS >> 3
_MAP_SIZE, _FRAME = b_.EDGES_SIZE, m_.FRAME
_PART = 512  # of the map of edges: looked at as a whole, which a compiler does with words as wide as the host has
_NEW, _IS_HALTED = turn_word("new"), vcpu_word("halted")
_DEADLINE_KIND, _TURN_OVER, _VERDICT, _PORT_OUT = int(K.DEADLINE), int(K.TURN_OVER), int(K.VERDICT), int(K.PORT_OUT)
_OUT_FIRST, _OUT_IMMEDIATE, _OUT_DX = 0xE6, 0xE7, 0xEE  # OUT of a byte and of more; the last is EFh
_EVENT_KIND = 0xFF  # of an entry of the ring


@kernel
def begin(b, loop):  # type: ignore[no-untyped-def]
    """All is as it was at the moment."""
    row = ld64(loop + _ZONES)
    for _ in range(ld64(loop + _ZONES_COUNT)):
        put_back(ld64(b + _FRAMES), b + _MAP, ld64(row), ld64(row + 8), ld64(row + 16))
        row += _ZONES_ROW
    row = ld64(loop + _COPIES)
    for _ in range(ld64(loop + _COPY_COUNT)):
        copy(ld64(row), ld64(row + 8), ld64(row + 16))
        row += _COPY_ROW
    home, age = ld64(loop + _HOME), ld64(loop + _AGE) + 1  # so what the last case left in the TLB is not valid
    st64(loop + _AGE, age)
    unpack(home + _TLB, age, ld64(loop + _ENTRIES), ld64(loop + _ENTRY_COUNT))
    copy(home + _TLB + _LARGE_IN_TLB, ld64(loop + _LARGE), _LARGE_SIZE)
    copy(home, ld64(loop + _EXTRA), _VCPU_SIZE)
    st64(home + _TO_AGE, age)
    load(b, ld64(loop + _STATE), home)
    st64(b + _NOW, ld64(loop + _WAS))
    st64(b + _INTR, ld64(loop + _LEVEL))
    st64(b + _FLOOR, 0)
    st64(b + _ARMED, 0)
    st64(b + _BLOCK_END, 0)
    st64(b + _COMPLETE, 0)
    if ld8(ld64(b + _TURNS) + _NEW):  # as `Turns.begin`
        st8(ld64(b + _TURNS) + _NEW, 0)
        st64(b + _SPINS, 0)
        st64(b + _SPINS_LEFT, 0)
        st64(b + _SPUN_AT, ld64(b + _NOW))
        st64(b + _WORKED, 0)
        st64(b + _SKIPPED, 0)
    return 0


@kernel
def _store(b, pages, offset, content, size):  # type: ignore[no-untyped-def]
    """Store bytes into pages of the base map, from an offset in the first on; whether the host had the frames."""
    done = 0
    while done < size:
        at = offset + done
        word = own(b, ld64(pages + 8 * (at >> 12)))
        if word == 0:
            return False
        hpa, part = (word & _FRAME) + (at & 0xFFF), min(size - done, 4096 - (at & 0xFFF))
        for n in range(part):
            st8(ld64(b + _RAM) + hpa + n, ld8(content + done + n))
        written(b, hpa, part)
        done += part
    return True


@kernel
def _put(b, loop, case):  # type: ignore[no-untyped-def]
    """Put a case's bytes, and how many they are, where the guest looks for them; whether the host had the frames."""
    size, register = ld64(case + 8), ld64(loop + _LENGTH_REGISTER)
    if register != _NO_REGISTER:
        st64(ld64(b + _ENV) + _REGS + 8 * register, size)
    if ld64(loop + _LENGTH_PAGES) and not _store(
        b, ld64(loop + _LENGTH_PAGES), ld64(loop + _LENGTH_OFFSET), case + 8, 4
    ):
        return False
    return _store(b, ld64(loop + _PAGES), ld64(loop + _OFFSET), ld64(case), size)


@kernel
def _wrote_to_port(b, loop):  # type: ignore[no-untyped-def]
    """Whether the guest has been left at an access that is a write to one of the ports that end a case."""
    last = ld64(b + _RING + _RING_SIZE * (ld64(b + _RING_AT) - 1 & _RING_MASK))
    port = ld64(b + _X_INFO)
    return last & _EVENT_KIND == _PORT_OUT and ld64(loop + _FIRST_PORT) <= port and port < ld64(loop + _END_PORT)


@kernel
def _goes_past(b):  # type: ignore[no-untyped-def]
    """Go past the OUT that the guest has been left at; whether it is one, and nothing comes of that."""
    length, opcode = decode(b), ld64(b + _D_OPCODE)
    if length == 0 or not (_OUT_FIRST <= opcode <= _OUT_IMMEDIATE or _OUT_DX <= opcode <= _OUT_DX + 1):
        return False
    st64(b + _X_KIND, 0)
    complete(b, length, 0)
    return ld64(b + _X_KIND) == 0


@kernel
def _note(b, loop, to, stop, where, value):  # type: ignore[no-untyped-def]
    st64(to, stop)
    st64(to + 8, where)
    st64(to + 16, value)
    st64(to + 24, ld64(b + _NOW) - ld64(loop + _WAS))
    return 0


@kernel
def _end(b, loop, kind, to):  # type: ignore[no-untyped-def]
    """Note how a case ended that the guest was left in with an exit of this kind."""
    env, row, value = ld64(b + _ENV), ld64(b + _ROW), ld64(b + _X_INFO + 16)
    if kind == _DEADLINE_KIND:
        if ld64(b + _NOW) >= ld64(loop + _END) and ld64(b + _SKIPPED) == 0 and in_block(b) == 0:
            return _note(b, loop, to, _TIME, 0, 0)
    elif kind == _TURN_OVER:
        if ld8(row + _IS_HALTED) and ld64(env + _EFLAGS) & RFLAGS_IF == 0:
            return _note(b, loop, to, _HALTED, ld64(env + _EIP), 0)
    elif kind == _VERDICT and _wrote_to_port(b, loop):
        port = ld64(b + _X_INFO)
        if _goes_past(b):
            return _note(b, loop, to, _PORT, port, value)
    return _note(b, loop, to, _IN_PYTHON, 0, 0)


@kernel
def _gather_part(edges, part, to):  # type: ignore[no-untyped-def]
    """Put what a part of the map says into the list at ``to``, and begin it anew; where the list goes on."""
    for at in range(part, part + _PART, 8):
        if ld64(edges + at):
            for n in range(at, at + 8):
                times = ld8(edges + n)
                if times:
                    st32(to, n << 8 | times)
                    to += 4
            st64(edges + at, 0)
    return to


@kernel
def _gather(b, loop):  # type: ignore[no-untyped-def]
    """Put what the map of edges says at the end of the list, and begin the map anew."""
    edges = ld64(b + _EDGES)
    to = ld64(loop + _EDGES_AT) + 4 * ld64(loop + _EDGES_USED)
    first = to
    for part in range(0, _MAP_SIZE, _PART):
        taken = 0
        for at in range(edges + part, edges + part + _PART, 8):
            taken |= ld64(at)
        if taken:
            to = _gather_part(edges, part, to)
    st64(loop + _EDGES_USED, ld64(loop + _EDGES_USED) + (to - first >> 2))
    return 0


@kernel
def _over(loop, number, ended):  # type: ignore[no-untyped-def]
    """A case is over, whose row is at ``ended``; the number of the next."""
    st64(ended + 32, ld64(loop + _EDGES_USED))
    st64(loop + _NUMBER, number + 1)
    return number + 1


@kernel
def repeat(b, loop):  # type: ignore[no-untyped-def]
    """Run the cases of a `CaseLoop`, from the one that is next on, on the pCPU that has the vCPU; why it is left. The
    in-place callback leaves the guest, whatever it is asked, and nobody else uses the VM.
    """
    number, count, edges = ld64(loop + _NUMBER), ld64(loop + _COUNT), ld64(b + _EDGES)
    while number < count:
        ended = ld64(loop + _ENDS) + _END_ROW * number
        if ld64(loop + _INSIDE) == 0:
            if ld64(b + _KICK):
                return _KICKED
            if edges and ld64(loop + _EDGES_USED) + _MAP_SIZE > ld64(loop + _EDGES_ROOM):
                return _FULL
            begin(b, loop)
            if not _put(b, loop, ld64(loop + _CASES) + _CASE_ROW * number):
                st64(b + _NO_FRAME, 0)
                _note(b, loop, ended, _IN_PYTHON, 0, 0)
                number = _over(loop, number, ended)
                continue
            until = min(ld64(loop + _END), ld64(loop + _UNTIL))
            st64(b + _NEXT, until)
            st64(b + _DEADLINE, until)
        kind = run(b)
        if kind == _DEADLINE_KIND and ld64(b + _KICK) and ld64(b + _NOW) < ld64(b + _NEXT):
            st64(loop + _INSIDE, 1)
            return _KICKED
        st64(loop + _INSIDE, 0)
        _end(b, loop, kind, ended)
        if edges:
            _gather(b, loop)
        number = _over(loop, number, ended)
    return _DONE


__all__ = ["begin", "repeat"]
