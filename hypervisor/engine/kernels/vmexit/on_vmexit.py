"""What happens at a #VMEXIT: normalise it, serve what nobody listens to, report the rest.

The file is long because an exit is dealt with in one place: `on_exit` leads to a few lines for each kind.
"""

from __future__ import annotations

from hypervisor.arch.exits import ExitKind as K
from hypervisor.engine import block as b_
from hypervisor.engine import costs
from hypervisor.engine import layout as l_
from hypervisor.engine.inside import RAISED
from hypervisor.engine.jit import call1, call2, call5, kernel, ld32, ld64, st32, st64
from hypervisor.engine.kernels.by_pointer import decode, deliver, walk
from hypervisor.engine.kernels.memory.access import flush_tlb, host_address, linear_rip
from hypervisor.engine.kernels.memory.lookaside import find, forget, keep
from hypervisor.engine.kernels.vmexit.events import EXCEPTION, PRIVILEGED, SHUTDOWN, SOFTWARE, TASK_GATE
from hypervisor.engine.kernels.vmexit.idle import skip_pauses

_ENV, _CPU, _UC, _EIP, _HFLAGS, _EFLAGS, _CR, _DR6 = (
    b_.ENV, b_.CPU, b_.UC, l_.EIP, l_.HFLAGS, l_.EFLAGS, l_.CR, l_.DR + 48,
)  # fmt: skip
_X_KIND, _X_INFO, _NOW, _BLOCK_END, _FAULT = b_.X_KIND, b_.X_INFO, b_.NOW, b_.BLOCK_END, b_.FAULT
_LISTEN, _LISTEN_EXCEPTIONS, _COUNTS, _F_EMU_STOP = b_.LISTEN, b_.LISTEN_EXCEPTIONS, b_.COUNTS, b_.F_EMU_STOP
_D_REPEAT = b_.D_REPEAT
_D_LENGTH, _D_OPCODE, _D_MODRM, _D_RM, _D_EA = b_.D_LENGTH, b_.D_OPCODE, b_.D_MODRM, b_.D_RM, b_.D_EA
_CPUID, _CPUID_COUNT, _COMPILED, _NUMBER = b_.CPUID, b_.CPUID_COUNT, b_.COMPILED, b_.NUMBER
_C_CPUID, _C_RDMSR, _C_HYPERCALL = b_.C_CPUID, b_.C_RDMSR, b_.C_HYPERCALL
_ALIAS, _F_TLB_FLUSH_PAGE, _TSC_OFFSET = b_.ALIAS, b_.F_TLB_FLUSH_PAGE, b_.TSC_OFFSET
_RING, _RING_AT = b_.RING, b_.RING_AT
_D_IMMEDIATE, _W_VECTOR = b_.D_IMMEDIATE, b_.W_VECTOR
_COSTS, _CR_READ_COSTS, _SPIN_NS = b_.COSTS, b_.COSTS + 8 * costs.CR_READ, costs.SPIN_NS
_FLOOR, _SPINS, _SPINS_LEFT, _SPUN_AT, _WORKED = b_.FLOOR, b_.SPINS, b_.SPINS_LEFT, b_.SPUN_AT, b_.WORKED
_DUE, _KICK = b_.DUE, b_.KICK
_WALL, _F_CLOCK, _WALL_BASE, _SHOWN, _SCRATCH = b_.WALL, b_.F_CLOCK, b_.WALL_BASE, b_.SHOWN, b_.SCRATCH
_REQUEST, _ERROR_CODE, _TSC_AUX = l_.CPU_INTERRUPT_REQUEST, l_.ERROR_CODE, l_.TSC_AUX
_RING_MASK, _RING_SIZE = b_.RING_ENTRIES - 1, 8 * b_.RING_WORDS
_LONGEST_INSTRUCTION = 15
_VMCALL, _VMMCALL = 0xC1010F, 0xD9010F
_CS64 = l_.HF_CS64

_CPUID_KIND, _RDMSR, _WRMSR, _INT_N, _INVLPG, _RDTSC, _RDTSCP = (
    int(K.CPUID), int(K.RDMSR), int(K.WRMSR), int(K.INT_N), int(K.INVLPG), int(K.RDTSC), int(K.RDTSCP),
)  # fmt: skip
_HYPERCALL, _EXCEPTION, _SHUTDOWN, _WINDOW, _TASK_GATE, _FAILED, _SVM = (
    int(K.HYPERCALL), int(K.EXCEPTION), int(K.SHUTDOWN), int(K.INTERRUPT_WINDOW), int(K.TASK_GATE), int(K.FAILED),
    int(K.SVM),
)  # fmt: skip
_CR_READ, _CR_WRITE, _DR_READ, _DR_WRITE, _CLTS, _LMSW, _SMSW, _HLT = (
    int(K.CR_READ), int(K.CR_WRITE), int(K.DR_READ), int(K.DR_WRITE), int(K.CLTS), int(K.LMSW), int(K.SMSW), int(K.HLT),
)  # fmt: skip
_RDRAND, _RDSEED, _MONITOR, _MWAIT, _INVD, _WBINVD = (
    int(K.RDRAND), int(K.RDSEED), int(K.MONITOR), int(K.MWAIT), int(K.INVD), int(K.WBINVD),
)  # fmt: skip
_SIDT, _SGDT, _SLDT, _STR, _LIDT, _LGDT, _LLDT, _LTR = (
    int(K.SIDT), int(K.SGDT), int(K.SLDT), int(K.STR), int(K.LIDT), int(K.LGDT), int(K.LLDT), int(K.LTR),
)  # fmt: skip
_RDPMC, _PUSHF, _POPF, _IRET, _PAUSE = int(K.RDPMC), int(K.PUSHF), int(K.POPF), int(K.IRET), int(K.PAUSE)
_SPINNING, _RAISED_KIND, _RAISED, _ROW = int(K.SPINNING), int(K.RAISED), RAISED, 24


@kernel
def listens(b, kind):  # type: ignore[no-untyped-def]
    """Whether Python wants exits of this kind."""
    return (ld64(b + _LISTEN) >> kind) & 1


@kernel
def count(b, kind):  # type: ignore[no-untyped-def]
    """Count an exit, and let it take its time."""
    st64(b + _COUNTS + 8 * kind, ld64(b + _COUNTS + 8 * kind) + 1)
    st64(b + _NOW, ld64(b + _NOW) + ld64(b + _COSTS + 8 * kind))
    return 0


@kernel
def ring(b, kind, info, value):  # type: ignore[no-untyped-def]
    """Remember an exit among the last `RING_ENTRIES`: kind (| an access's size << 8 | vCPU << 16 | info << 24), RIP,
    time and value; ``info`` has 40 bits. Returns the entry's address.
    """
    at = ld64(b + _RING_AT)
    st64(b + _RING_AT, at + 1)
    slot = b + _RING + _RING_SIZE * (at & _RING_MASK)
    st64(slot, kind | ld64(b + _NUMBER) << 16 | info << 24)
    st64(slot + 8, ld64(ld64(b + _ENV) + _EIP))
    st64(slot + 16, ld64(b + _NOW))
    st64(slot + 24, value)
    return slot


@kernel
def settle(b):  # type: ignore[no-untyped-def]
    """A block was left at RIP: what it has not executed is taken off the clock again."""
    rip = linear_rip(b)
    left = ld64(b + _BLOCK_END) - rip
    if left > 0 and left < 65536:
        st64(b + _NOW, ld64(b + _NOW) - left)
        st64(b + _BLOCK_END, rip)
    return 0


@kernel
def stop(b, kind, inside):  # type: ignore[no-untyped-def]
    """Make the run loop return to Python with this exit."""
    st64(b + _X_KIND, kind)
    if inside:
        call1(ld64(b + _F_EMU_STOP), ld64(b + _UC))
    return 0


@kernel
def raise_event(b, vector, error, kind, rip, inside):  # type: ignore[no-untyped-def]
    """Deliver an event, and stop where delivery does not end in the guest's handler."""
    address = ld64(ld64(b + _ENV) + _CR + 16) if vector == 14 else 0
    ring(b, _EXCEPTION, vector | (error & 0xFFFF) << 8 | kind << 24, address)
    result = deliver(b, vector, error, kind, rip, inside)
    if result == SHUTDOWN:
        count(b, _SHUTDOWN)
        stop(b, _SHUTDOWN, inside)
    elif result == TASK_GATE:
        stop(b, _TASK_GATE, inside)
    return 0


@kernel
def raise_exception(b, vector, error, inside):  # type: ignore[no-untyped-def]
    """An exception of the guest at RIP: to the handler that listens, else to the guest."""
    count(b, _EXCEPTION)
    if vector < 32 and (ld64(b + _LISTEN_EXCEPTIONS) >> vector) & 1:
        st64(b + _X_INFO, vector)
        st64(b + _X_INFO + 8, error)
        st64(b + _X_INFO + 16, ld64(ld64(b + _ENV) + _CR + 16))
        st64(b + _X_INFO + 32, EXCEPTION)
        stop(b, _EXCEPTION, inside)
        return 0
    return raise_event(b, vector, error, EXCEPTION, ld64(ld64(b + _ENV) + _EIP), inside)


@kernel
def complete(b, length, inside):  # type: ignore[no-untyped-def]
    """The instruction at RIP has been carried out: advance, end RF and the interrupt shadow, trap if stepping."""
    env = ld64(b + _ENV)
    hflags = ld32(env + _HFLAGS)
    rip = ld64(env + _EIP) + length
    if hflags & _CS64 == 0:
        rip &= 0xFFFFFFFF
    st64(env + _EIP, rip)
    st32(env + _HFLAGS, hflags & ~8)
    flags = ld64(env + _EFLAGS)
    st64(env + _EFLAGS, flags & ~0x10000)
    st64(b + _NOW, ld64(b + _NOW) + length)
    if flags & 0x100:
        st64(env + _DR6, ld64(env + _DR6) | 0x4000)
        raise_exception(b, 1, 0, inside)
    return 0


@kernel
def opcode_bytes(b):  # type: ignore[no-untyped-def]
    """The first four bytes at RIP, low first; -1 where they cannot be read at once."""
    at = linear_rip(b)
    if at & 0xFFF > 0xFFC:
        return -1
    user = 1 if ld32(ld64(b + _ENV) + _HFLAGS) & 3 == 3 else 0
    delta = find(b, at, 2, user)
    if delta == 0:
        gpa = walk(b, at, 2, 8 | user)
        if ld64(b + _W_VECTOR) >= 0:
            return -1
        where = host_address(b, gpa)
        if where == 0:
            return -1
        delta = keep(b, at, 2, user, where - at)
    return ld32(at + delta)


@kernel
def unreadable(b):  # type: ignore[no-untyped-def]
    """The instruction that left the guest cannot be decoded. It is executed again, or is undefined.

    A guest that changes its page tables without flushing the TLB can run an instruction whose bytes the tables no
    longer lead to. Any processor may forget a translation at any time: forget it, and the fetch faults.
    """
    st64(b + _NOW, ld64(b + _NOW) + ld64(b + _COSTS + 8 * _EXCEPTION))
    how = 8 | (1 if ld32(ld64(b + _ENV) + _HFLAGS) & 3 == 3 else 0)
    at = linear_rip(b)
    for position in range(_LONGEST_INSTRUCTION):
        walk(b, at + position, 2, how)
        if ld64(b + _W_VECTOR) >= 0:
            flush_tlb(b)
            return 0
    return raise_exception(b, 6, 0, 1)


@kernel
def length_of(b, usual):  # type: ignore[no-untyped-def]
    """Length of a two-byte-opcode instruction at RIP: ``usual`` unless it has prefixes."""
    if opcode_bytes(b) & 0xFF == 0x0F:
        st64(b + _D_LENGTH, usual)
        return usual
    return decode(b)


@kernel
def clock(b):  # type: ignore[no-untyped-def]
    """The VM's time in nanoseconds, which is also the TSC before its offset."""
    if ld64(b + _WALL):
        call2(ld64(b + _F_CLOCK), 1, b + _SCRATCH)  # CLOCK_MONOTONIC
        now = ld64(b + _SCRATCH) * 1000000000 + ld64(b + _SCRATCH + 8) - ld64(b + _WALL_BASE)
        if now > ld64(b + _DUE):  # the host has kept the guest from running: see `VmClock.hold_back`
            now = max(ld64(b + _SHOWN), ld64(b + _DUE))
            st64(b + _KICK, 1)
        st64(b + _SHOWN, now)
        return now
    return max(ld64(b + _NOW), ld64(b + _FLOOR))


@kernel
def compiled(b, handler, first, second, value, inside):  # type: ignore[no-untyped-def]
    """The answer of a compiled handler. If it raised, the run ends."""
    at = ld64(b + _COMPILED) + _ROW * handler
    state = ld64(at + 8)
    answer = call5(ld64(at), state, ld64(b + _ENV), first, second, value)
    if ld64(state + _RAISED):
        st64(b + _X_INFO, handler)
        st64(b + _X_INFO + 8, first)
        st64(b + _X_INFO + 16, second)
        st64(b + _X_INFO + 24, value)
        stop(b, _RAISED_KIND, inside)
    return answer


@kernel
def _answered(b, kind, handler, first, second):  # type: ignore[no-untyped-def]
    """Whether one of the compiled handlers of a kind of exits has dealt with this one."""
    while handler:
        if compiled(b, handler, first, second, 0, 1) or ld64(b + _X_KIND):
            count(b, kind)
            return True
        handler = ld64(ld64(b + _COMPILED) + _ROW * handler + 16)
    return False


@kernel
def _complete_unless_stopped(b, length):  # type: ignore[no-untyped-def]
    if ld64(b + _X_KIND):
        return 0
    return complete(b, length, 1)


@kernel
def _cpuid(b):  # type: ignore[no-untyped-def]
    env = ld64(b + _ENV)
    leaf, subleaf = ld64(env) & 0xFFFFFFFF, ld64(env + 8) & 0xFFFFFFFF
    a, c, d, x = 0, 0, 0, 0
    row = ld64(b + _CPUID) + 48 * ld64(b + _CPUID_COUNT) * ld64(b + _NUMBER)
    for _ in range(ld64(b + _CPUID_COUNT)):
        if ld64(row) == leaf and (ld64(row + 8) == -1 or ld64(row + 8) == subleaf):
            a, x, c, d = ld64(row + 16), ld64(row + 24), ld64(row + 32), ld64(row + 40)
            if leaf == 1:
                c |= ((ld64(env + _CR + 32) >> 18) & 1) << 27  # OSXSAVE follows CR4
            break
        row += 48
    st64(env, a)
    st64(env + 8, c)
    st64(env + 16, d)
    st64(env + 24, x)
    return 0


@kernel
def _invlpg(b):  # type: ignore[no-untyped-def]
    length = decode(b)
    if length == 0:
        return 0
    va = ld64(b + _D_EA)
    index = (va >> 21) & 4095
    if (ld64(ld64(b + _ALIAS) + 8 * (index >> 6)) >> (index & 63)) & 1:
        flush_tlb(b)  # the page may be part of a large one, which the TLB holds in pieces
    else:
        call2(ld64(b + _F_TLB_FLUSH_PAGE), ld64(b + _CPU), va & ~0xFFF)
        forget(b)
    return length


@kernel
def _written(b, kind, otherwise):  # type: ignore[no-untyped-def]
    """What an instruction is about to write into a control, debug or model-specific register."""
    env = ld64(b + _ENV)
    if kind == _WRMSR:
        return (ld64(env + 16) & 0xFFFFFFFF) << 32 | (ld64(env) & 0xFFFFFFFF)
    if kind == _CR_WRITE or kind == _DR_WRITE:
        return ld64(env + 8 * (ld64(b + _D_RM) & 15))
    return otherwise


@kernel
def _report(b, kind, first, second):  # type: ignore[no-untyped-def]
    st64(b + _X_INFO, first)
    st64(b + _X_INFO + 8, second)
    count(b, kind)
    if kind == _INVLPG:
        ring(b, kind, 0, first)
    else:
        ring(b, kind, first, _written(b, kind, second))
    return stop(b, kind, 1)


@kernel
def _raise_after(b, vector, kind, length):  # type: ignore[no-untyped-def]
    """Deliver an event that is raised after the instruction at RIP."""
    st64(b + _NOW, ld64(b + _NOW) + length)
    env = ld64(b + _ENV)
    rip = ld64(env + _EIP) + length
    if ld32(env + _HFLAGS) & _CS64 == 0:
        rip &= 0xFFFFFFFF
    return raise_event(b, vector, 0, kind, rip, 1)


@kernel
def _raised_by_instruction(b, vector, kind, length):  # type: ignore[no-untyped-def]
    """INT1, INT3 and INTO are exceptions: to the handler that listens, else to the guest."""
    if (ld64(b + _LISTEN_EXCEPTIONS) >> vector) & 1:
        st64(b + _D_LENGTH, length)
        st64(b + _X_INFO + 16, 0)
        st64(b + _X_INFO + 32, kind)
        return _report(b, _EXCEPTION, vector, 0)
    count(b, _EXCEPTION)
    return _raise_after(b, vector, kind, length)


@kernel
def _undefined(b):  # type: ignore[no-untyped-def]
    """#UD: some instructions that we serve or that handlers can have arrive as one."""
    word = opcode_bytes(b) & 0xFFFFFF
    if word == _VMCALL or word == _VMMCALL:
        length, opcode, modrm = 3, 0x0F01, word >> 16
        st64(b + _D_LENGTH, length)
    else:
        length = decode(b)
        opcode, modrm = ld64(b + _D_OPCODE), ld64(b + _D_MODRM)
    if length:
        if opcode == 0x0F01 and (modrm == 0xC1 or modrm == 0xD9):
            if _answered(b, _HYPERCALL, ld64(b + _C_HYPERCALL), ld64(ld64(b + _ENV)), 0):
                return _complete_unless_stopped(b, length)
            if listens(b, _HYPERCALL):
                return _report(b, _HYPERCALL, 0, 0)
        elif opcode == 0x0F01 and (modrm == 0xC8 or modrm == 0xC9):
            if listens(b, _MONITOR if modrm == 0xC8 else _MWAIT):
                return _report(b, _MONITOR if modrm == 0xC8 else _MWAIT, 0, 0)
        elif opcode == 0x0F01 and modrm >= 0xD8 and modrm <= 0xDF:
            if listens(b, _SVM):
                return _report(b, _SVM, modrm, 0)
        elif opcode == 0x0FC7 and modrm >= 0xF0 and ld64(b + _D_REPEAT) == 0:  # with F3 it is RDPID, which there is not
            if listens(b, _RDRAND if modrm < 0xF8 else _RDSEED):
                return _report(b, _RDRAND if modrm < 0xF8 else _RDSEED, 0, 0)
        elif opcode == 0xF1:
            return _raised_by_instruction(b, 1, PRIVILEGED, length)
    return raise_exception(b, 6, 0, 1)


@kernel
def _software_interrupt(b):  # type: ignore[no-untyped-def]
    word = opcode_bytes(b)
    first = word & 0xFF if word >= 0 else 0
    vector, length, kind = 0, 1, SOFTWARE | 4
    if first == 0xCD:
        vector, length, kind = (word >> 8) & 0xFF, 2, SOFTWARE
    elif first == 0xCC:
        vector = 3
    elif first == 0xCE:
        vector = 4
    else:
        length = decode(b)
        opcode = ld64(b + _D_OPCODE)
        if opcode == 0xCD:
            vector, kind = ld64(b + _D_IMMEDIATE), SOFTWARE
        else:
            vector = 3 if opcode == 0xCC else 4
    if length == 0 or vector < 0:
        return unreadable(b)
    st64(b + _D_LENGTH, length)
    if kind != SOFTWARE:
        return _raised_by_instruction(b, vector, kind, length)
    if listens(b, _INT_N):
        st64(b + _X_INFO + 16, kind)
        return _report(b, _INT_N, vector, length)
    count(b, _INT_N)
    return _raise_after(b, vector, kind, length)


@kernel
def time_stamp(b, kind):  # type: ignore[no-untyped-def]
    """Let a vCPU read its time-stamp counter, as RDTSC or RDTSCP."""
    count(b, kind)
    env = ld64(b + _ENV)
    now = clock(b) + ld64(b + _TSC_OFFSET)
    st64(env, now & 0xFFFFFFFF)
    st64(env + 16, (now >> 32) & 0xFFFFFFFF)
    if kind == _RDTSCP:
        st64(env + 8, ld64(env + _TSC_AUX) & 0xFFFFFFFF)
    return 0


@kernel
def spin(b, inside):  # type: ignore[no-untyped-def]
    """A PAUSE was executed. If other vCPUs could run, many in quick succession end the turn."""
    if ld64(b + _SPINS) == 0:
        return 0
    now = ld64(b + _NOW)
    left = ld64(b + _SPINS_LEFT) - 1
    if now - ld64(b + _SPUN_AT) > _SPIN_NS:
        st64(b + _WORKED, 1)
        left = ld64(b + _SPINS)
    st64(b + _SPUN_AT, now)
    st64(b + _SPINS_LEFT, left)
    if left <= 0 and ld64(b + _X_KIND) == 0:
        stop(b, _SPINNING, inside)
    return 0


@kernel
def on_exit(b, number):  # type: ignore[no-untyped-def]
    """The body of the interrupt hook: ``number`` is 100h plus the manual's exit code."""
    code = number - 0x100
    env = ld64(b + _ENV)
    if code == 0x64:
        cpu = ld64(b + _CPU)
        st32(cpu + _REQUEST, ld32(cpu + _REQUEST) & ~0x100)
        if ld64(b + _X_KIND) == 0 and ld64(b + _FAULT) < 0:
            stop(b, _WINDOW, 1)
        return 0
    if code != 0x41:  # a single step is over at the end of its block, and RIP may be anywhere
        settle(b)
    if code >= 0x40 and code < 0x60:
        vector = code - 0x40
        if vector == 6:
            return _undefined(b)
        if vector == 14:
            st64(b + _X_INFO + 24, ld64(env + _CR + 16))
            return raise_exception(b, 14, ld32(env + _ERROR_CODE), 1)
        return raise_exception(b, vector, ld32(env + _ERROR_CODE), 1)
    if code == 0x75:
        return _software_interrupt(b)
    if code == 0x72:
        length = length_of(b, 2)
        if length == 0:
            return unreadable(b)
        if _answered(b, _CPUID_KIND, ld64(b + _C_CPUID), ld64(env) & 0xFFFFFFFF, ld64(env + 8) & 0xFFFFFFFF):
            return _complete_unless_stopped(b, length)
        if listens(b, _CPUID_KIND):
            return _report(b, _CPUID_KIND, 0, 0)
        count(b, _CPUID_KIND)
        _cpuid(b)
        return complete(b, length, 1)
    if code == 0x7C:
        length = length_of(b, 2)
        if length == 0:
            return unreadable(b)
        write = ld32(env + _ERROR_CODE) & 1
        if write == 0 and _answered(b, _RDMSR, ld64(b + _C_RDMSR), ld64(env + 8) & 0xFFFFFFFF, 0):
            return _complete_unless_stopped(b, length)
        return _report(b, _WRMSR if write else _RDMSR, ld64(env + 8) & 0xFFFFFFFF, 0)
    if code == 0x79:
        if listens(b, _INVLPG):
            if decode(b) == 0:
                return unreadable(b)
            return _report(b, _INVLPG, ld64(b + _D_EA), 0)
        length = _invlpg(b)
        if length == 0:
            return unreadable(b)
        count(b, _INVLPG)
        return complete(b, length, 1)
    if code == 0x6E:
        length, kind = 2, _RDTSC
        if opcode_bytes(b) & 0xFFFF != 0x310F:
            length = decode(b)
            if length == 0:
                return unreadable(b)
            kind = _RDTSC if ld64(b + _D_OPCODE) == 0x0F31 else _RDTSCP
        st64(b + _D_LENGTH, length)
        if listens(b, kind):
            return _report(b, kind, 0, 0)
        time_stamp(b, kind)
        return complete(b, length, 1)
    # everything else goes to Python, with its operands decoded
    length = decode(b)
    if length == 0:
        return unreadable(b)
    if code == 0x77 and not listens(b, _PAUSE):
        count(b, _PAUSE)
        shadow = ld32(env + _HFLAGS) & 8
        complete(b, length, 1)
        spin(b, 1)
        return 0 if shadow else skip_pauses(b)
    opcode = ld64(b + _D_OPCODE)
    if code < 0x20:
        number = code & 15
        if opcode == 0x0F06:
            return _report(b, _CLTS, 0, 0)
        if opcode == 0x0F01:
            return _report(b, _LMSW if code >= 0x10 else _SMSW, 0, 0)
        if code >= 0x10:  # which has taken its time, see `kernels.instructions.in_place`
            return _report(b, _CR_WRITE, number, 0)
        st64(b + _NOW, ld64(b + _NOW) + ld64(b + _CR_READ_COSTS + 8 * number))
        return _report(b, _CR_READ, number, 0)
    if code < 0x40:
        return _report(b, _DR_WRITE if code >= 0x30 else _DR_READ, code & 15, 0)
    kind = _FAILED
    if code == 0x78:
        kind = _HLT
    elif code == 0x77:
        kind = _PAUSE
    elif code == 0x66:
        kind = _SIDT
    elif code == 0x67:
        kind = _SGDT
    elif code == 0x68:
        kind = _SLDT
    elif code == 0x69:
        kind = _STR
    elif code == 0x6A:
        kind = _LIDT
    elif code == 0x6B:
        kind = _LGDT
    elif code == 0x6C:
        kind = _LLDT
    elif code == 0x6D:
        kind = _LTR
    elif code == 0x6F:
        kind = _RDPMC
    elif code == 0x70:
        kind = _PUSHF
    elif code == 0x71:
        kind = _POPF
    elif code == 0x74:
        kind = _IRET
    elif code == 0x76 or code == 0x89:
        kind = _INVD if opcode == 0x0F08 else _WBINVD
    return _report(b, kind, code, 0)


__all__ = ["compiled", "complete", "count", "on_exit", "raise_event", "raise_exception", "ring", "settle", "stop"]
