"""Segment loads, far JMP, CALL, RET and IRET: APM volume 3, volume 2 chapter 4.

A transfer either gives the state after it, or the exception of the instruction itself, or asks for a task switch. All
that is popped is read first, then CS is checked, then RIP, then SS; memory is written last (accessed bits, then the
stack), and what comes first among several faults there is ``unsettled``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .linear import GuestFaultError, Linear
from .paging import canonical
from .segments import Descriptor, decode_gate, fits, mark_accessed, null, read_descriptor
from .state import IF, MASK16, MASK32, MASK64, NT, RSP, VM, Memory, Segment, State

INVALID_TSS, NOT_PRESENT, STACK, GENERAL_PROTECTION = 10, 11, 12, 13
TSS16, CALL_GATE16, TASK_GATE, TSS32, CALL_GATE = 1, 4, 5, 9, 12
ARITHMETIC, TF, DF, IOPL, RF, AC, VIF_VIP, ID = 0x8D5, 0x100, 0x400, 0x3000, 0x10000, 0x40000, 0x180000, 0x200000


@dataclass(frozen=True)
class Transfer:
    """An instruction: ``what`` is jmp, call, ret, iret or load; ``length`` its bytes, ``size`` its operand size."""

    what: str
    size: int
    length: int
    selector: int = 0
    offset: int = 0
    released: int = 0
    register: str = ""


@dataclass
class Result:
    """What became of it. ``task`` is the selector of a gate or TSS that the instruction switches to."""

    state: State
    fault: GuestFaultError | None = None
    task: int | None = None
    unsettled: bool = False


class TaskSwitchError(Exception):
    """Raised inside an instruction that switches tasks."""

    def __init__(self, selector: int) -> None:
        """``selector`` names the TSS or the task gate."""
        super().__init__(f"task switch to {selector:#x}")
        self.selector = selector


def execute(memory: Memory, state: State, transfer: Transfer) -> Result:
    """Carry out one instruction; ``state`` stays as it is."""
    execution = Execution(memory, state, transfer)
    try:
        after = getattr(execution, transfer.what)()
    except GuestFaultError as fault:
        return Result(state.copy(), fault=fault, unsettled=execution.linear.writes > 0)
    except TaskSwitchError as switch:
        return Result(state.copy(), task=switch.selector)
    return Result(after)


def refused(vector: int, selector: int = 0) -> GuestFaultError:
    """An exception of the instruction, which names a selector."""
    return GuestFaultError(vector, selector & 0xFFFC)


class Execution:
    """One instruction."""

    def __init__(self, memory: Memory, state: State, transfer: Transfer) -> None:
        """Nothing is read yet."""
        self.old, self.transfer = state, transfer
        self.new = state.copy()
        self.linear = Linear(memory, state)
        self.in_64_bit = state.long_mode and state.segs["cs"].long
        self.marks: list[Descriptor] = []

    # --- descriptors --------------------------------------------------------------------------------------------------

    def descriptor(self, selector: int) -> Descriptor:
        """What a selector names, within its table."""
        if null(selector):
            raise refused(GENERAL_PROTECTION)
        found = read_descriptor(self.linear, self.old, selector)
        if found is None:
            raise refused(GENERAL_PROTECTION, selector)
        return found

    def to_64_bit(self, code: Descriptor) -> bool:
        """Whether this code runs in 64-bit mode."""
        return self.old.long_mode and code.long

    def check_target(self, code: Descriptor, target: int) -> None:
        """RIP must be canonical, or within the limit."""
        if not (canonical(target) if self.to_64_bit(code) else target <= code.limit):
            raise refused(GENERAL_PROTECTION)

    def check_code(self, selector: int, code: Descriptor, good: bool) -> None:
        """Type, privilege, the reserved combination of L and D, and presence."""
        if not code.code or not good or (self.old.long_mode and code.long and code.big):
            raise refused(GENERAL_PROTECTION, selector)
        if not code.present:
            raise refused(NOT_PRESENT, selector)

    def commit(self, *pushes: tuple[int, int, int, int]) -> None:
        """The instruction can no longer be refused but for what it writes: (address, size, value, CPL) each."""
        for descriptor in self.marks:
            mark_accessed(self.linear, descriptor)
        for va, size, value, cpl in pushes:
            self.linear.push_at(va, (value & (1 << 8 * size) - 1).to_bytes(size, "little"), cpl)

    # --- the stack ----------------------------------------------------------------------------------------------------

    @property
    def stack_mask(self) -> int:
        """What of RSP addresses the stack."""
        return MASK64 if self.in_64_bit else MASK32 if self.old.segs["ss"].big else MASK16

    def at_stack(self, offset: int, size: int, mask: int) -> int:
        """The linear address of an item of the present stack."""
        offset &= mask
        if mask == MASK64:
            if not (canonical(offset) and canonical(offset + size - 1 & MASK64)):
                raise refused(STACK)
            return offset
        if not fits(self.old.segs["ss"], offset, size):
            raise refused(STACK)
        return self.old.segs["ss"].base + offset & MASK32

    def pop(self, first: int, count: int, gap: int = 0) -> list[int]:
        """Items of the operand size, from number ``first``, with ``gap`` bytes before them."""
        size = self.transfer.size
        places = [
            self.at_stack(self.old.regs[RSP] + gap + size * n, size, self.stack_mask)
            for n in range(first, first + count)
        ]
        return [int.from_bytes(self.linear.pop_at(va, size), "little") for va in places]

    def push(self, size: int, values: list[int], mask: int) -> list[tuple[int, int, int, int]]:
        """Pushes onto the present stack, and RSP behind them."""
        rsp = self.old.regs[RSP]
        result = [
            (self.at_stack(rsp - size * (n + 1), size, mask), size, value, self.old.cpl)
            for n, value in enumerate(values)
        ]
        self.new.regs[RSP] = rsp & ~mask & MASK64 | rsp - size * len(values) & mask
        return result

    # --- loading a data segment ---------------------------------------------------------------------------------------

    def load(self) -> State:
        """MOV to a segment register."""
        name, selector = self.transfer.register, self.transfer.selector
        stack, cpl = name == "ss", self.old.cpl
        self.new.rip += self.transfer.length
        if null(selector):
            if stack and (not self.in_64_bit or cpl == 3):
                raise refused(GENERAL_PROTECTION)
            self.make_null(self.new, name, selector, self.in_64_bit)
            return self.new
        found = self.descriptor(selector)
        if stack:
            good = found.writable_data and selector & 3 == found.dpl == cpl
        else:
            good = found.user_segment and (not found.code or bool(found.type & 2))
            good = good and (found.conforming or found.dpl >= max(cpl, selector & 3))
        if not good:
            raise refused(GENERAL_PROTECTION, selector)
        if not found.present:
            raise refused(STACK if stack else NOT_PRESENT, selector)
        self.marks = [found]
        self.commit()
        self.new.segs[name] = found.load(selector)
        return self.new

    @staticmethod
    def make_null(state: State, name: str, selector: int, keeps_base: bool) -> None:
        """FS and GS keep their bases in long mode (APM 2, 4.5.3); SS keeps the privilege level."""
        base = state.segs[name].base if keeps_base and name in ("fs", "gs") else 0
        state.segs[name] = Segment(selector, base, 0, state.cpl << 5 if name == "ss" else 0)

    # --- JMP and CALL -------------------------------------------------------------------------------------------------

    def jmp(self) -> State:
        """Far JMP."""
        selector, code, target, _ = self.destination(called=False)
        self.marks = [code]
        self.check_target(code, target)
        self.commit()
        return self.enter(selector, code, target, self.old.cpl)

    def destination(self, called: bool) -> tuple[int, Descriptor, int, tuple[int, int] | None]:
        """Selector, code segment and offset; and the gate's operand size and parameters if there is one."""
        selector, offset, cpl = self.transfer.selector, self.transfer.offset, self.old.cpl
        found = self.descriptor(selector)
        if found.user_segment:
            good = found.dpl <= cpl if found.conforming else found.dpl == cpl and selector & 3 <= cpl
            self.check_code(selector, found, good)
            return selector, found, offset, None
        kinds = (CALL_GATE,) if self.old.long_mode else (TSS16, CALL_GATE16, TASK_GATE, TSS32, CALL_GATE)
        if found.type not in kinds or found.dpl < max(cpl, selector & 3):
            raise refused(GENERAL_PROTECTION, selector)
        if not found.present:
            raise refused(NOT_PRESENT, selector)
        if found.type in (TSS16, TSS32, TASK_GATE):
            raise TaskSwitchError(selector)
        raw = self.linear.read_system(found.va, 8)
        if self.old.long_mode:
            upper = read_descriptor(self.linear, self.old, (selector & ~7) + 8 | selector & 4)
            if upper is None or upper.attributes & 0x1F:
                raise refused(GENERAL_PROTECTION, selector)
            raw += self.linear.read_system(upper.va, 8)
        gate = decode_gate(raw)
        code = self.descriptor(gate.selector)
        good = code.dpl <= cpl if called or code.conforming else code.dpl == cpl
        if self.old.long_mode and not code.long:
            good = False
        self.check_code(gate.selector, code, good)
        size = 8 if self.old.long_mode else 2 if gate.type == CALL_GATE16 else 4
        return gate.selector, code, gate.offset, (size, raw[4] & 0x1F)

    def enter(self, selector: int, code: Descriptor, target: int, cpl: int) -> State:
        """CS:RIP."""
        self.new.segs["cs"] = code.load(selector & ~3 | cpl)
        self.new.cpl, self.new.rip = cpl, target
        return self.new

    def call(self) -> State:
        """Far CALL."""
        selector, code, target, gate = self.destination(called=True)
        following = self.old.rip + self.transfer.length
        if gate and not code.conforming and code.dpl < self.old.cpl:
            return self.call_inner(selector, code, target, following, *gate)
        size, mask = self.transfer.size, self.stack_mask
        if gate:
            size, mask = gate[0], MASK64 if self.old.long_mode else mask
        pushes = self.push(size, [self.old.segs["cs"].selector, following], mask)
        self.check_target(code, target)
        self.marks = [code]
        self.commit(*pushes)
        return self.enter(selector, code, target, self.old.cpl)

    def call_inner(self, selector: int, code: Descriptor, target: int, following: int, size: int, count: int) -> State:
        """Through a gate to an inner level, onto the stack that the TSS names for it."""
        old, cpl = self.old, code.dpl
        frame = [old.segs["ss"].selector, old.regs[RSP]]
        if size == 8:
            top, mask, base = self.tss_field(4 + 8 * cpl, 8), MASK64, 0
            stack = Segment(cpl, 0, 0, cpl << 5)
            slots = [top - 8 * (n + 1) & MASK64 for n in range(4)]
            if not all(canonical(slot) for slot in slots):
                raise refused(STACK)
            self.check_target(code, target)
            frame += [old.segs["cs"].selector, following]
        else:
            ss, top, descriptor = self.inner_stack(cpl)
            mask, base = MASK32 if descriptor.big else MASK16, descriptor.base
            stack = descriptor.load(ss)
            slots = [top - size * (n + 1) & mask for n in range(4 + count)]
            if not all(fits(descriptor, slot, size) for slot in slots):
                raise refused(STACK, ss)
            self.check_target(code, target)
            self.transfer = replace(self.transfer, size=size)
            frame += [*reversed(self.pop(0, count)), old.segs["cs"].selector, following]
            self.marks.append(descriptor)
        self.marks.insert(0, code)
        wrap = MASK64 if size == 8 else MASK32
        self.commit(*((base + at & wrap, size, value, cpl) for at, value in zip(slots, frame, strict=True)))
        self.new.segs["ss"] = stack
        self.new.regs[RSP] = top & ~mask & MASK64 | slots[-1]
        return self.enter(selector, code, target, cpl)

    def tss_field(self, at: int, size: int, needed: int = 0) -> int:
        """A field of the TSS, which must reach so far."""
        tr = self.old.tr
        if at + (needed or size) - 1 > tr.limit:
            raise refused(INVALID_TSS, tr.selector)
        return int.from_bytes(self.linear.read_system(tr.base + at, size), "little")

    def inner_stack(self, dpl: int) -> tuple[int, int, Descriptor]:
        """SS:ESP of a legacy TSS, with SS checked."""
        if self.old.tr.type & 8:
            pair = self.tss_field(4 + 8 * dpl, 6)
            top, ss = pair & MASK32, pair >> 32
        else:
            pair = self.tss_field(2 + 4 * dpl, 4)
            top, ss = pair & MASK16, pair >> 16
        if null(ss):
            raise refused(INVALID_TSS)
        found = read_descriptor(self.linear, self.old, ss) if ss & 3 == dpl else None
        if found is None or not found.writable_data or found.dpl != dpl:
            raise refused(INVALID_TSS, ss)
        if not found.present:
            raise refused(STACK, ss)
        return ss, top, found

    # --- RET and IRET -------------------------------------------------------------------------------------------------

    def ret(self) -> State:
        """Far RET."""
        return self.leave(self.pop(0, 2), None)

    def iret(self) -> State:
        """IRET in every mode."""
        if not self.old.protected or self.old.v86:
            return self.iret_real()
        if self.old.rflags & NT:
            if self.old.long_mode:
                raise refused(GENERAL_PROTECTION)
            raise TaskSwitchError(int.from_bytes(self.linear.read_system(self.old.tr.base, 2), "little"))
        frame = self.pop(0, 3)
        if frame[2] & VM and self.transfer.size == 4 and self.old.cpl == 0 and not self.old.long_mode:
            return self.to_v86(frame + self.pop(3, 6))
        return self.leave(frame, frame[2])

    def leave(self, frame: list[int], image: int | None) -> State:
        """Return to the same or an outer level."""
        target, selector = frame[0], frame[1] & MASK16
        rpl, cpl = selector & 3, self.old.cpl
        switch = rpl > cpl or (image is not None and self.in_64_bit)
        outer = self.pop(len(frame), 2, self.transfer.released) if switch else []
        code = self.descriptor(selector)
        self.check_code(selector, code, rpl >= cpl and (code.dpl <= rpl if code.conforming else code.dpl == rpl))
        self.check_target(code, target)
        self.marks = [code]
        size, released = self.transfer.size, self.transfer.released
        mask, rsp = self.stack_mask, self.old.regs[RSP] + len(frame) * size
        self.new.cpl = rpl
        if switch:
            rsp, mask = outer[0], self.return_stack(outer[1] & MASK16, rpl, self.to_64_bit(code))
        self.commit()
        self.new.regs[RSP] = rsp + released & mask
        if mask == MASK16:
            self.new.regs[RSP] |= self.old.regs[RSP] & ~MASK16
        if rpl > cpl:
            for name in ("es", "ds", "fs", "gs"):
                segment = self.old.segs[name]
                if not null(segment.selector) and segment.dpl < rpl and segment.type & 0xC != 0xC:
                    self.make_null(self.new, name, 0, self.old.long_mode)
        if image is not None:
            self.load_flags(image, cpl)
        self.new.segs["cs"], self.new.rip = code.load(selector), target
        return self.new

    def return_stack(self, ss: int, rpl: int, to_64_bit: bool) -> int:
        """Load SS; what of RSP counts there."""
        if null(ss):
            if not to_64_bit or rpl == 3:
                raise refused(GENERAL_PROTECTION)
            self.new.segs["ss"] = Segment(ss, 0, 0, rpl << 5)
            return MASK64
        found = self.descriptor(ss)
        if not found.writable_data or not ss & 3 == found.dpl == rpl:
            raise refused(GENERAL_PROTECTION, ss)
        if not found.present:
            raise refused(STACK, ss)
        self.marks.append(found)
        self.new.segs["ss"] = found.load(ss)
        return MASK64 if to_64_bit else MASK32 if found.big else MASK16

    def load_flags(self, image: int, cpl: int) -> None:
        """VIF, VIP and IOPL at CPL 0 only, IF by IOPL; the upper half not with 16-bit operands."""
        changes = ARITHMETIC | TF | DF | NT
        if cpl <= self.old.iopl:
            changes |= IF
        if cpl == 0:
            changes |= IOPL | VIF_VIP
        if self.transfer.size > 2:
            changes |= RF | AC | ID
        else:
            changes &= ~VIF_VIP
        self.new.rflags = self.old.rflags & ~changes | image & changes

    def to_v86(self, frame: list[int]) -> State:
        """Return to virtual-8086 mode."""
        self.new.rip = frame[0] & MASK16
        self.new.rflags = frame[2] & 0x3F7FD5 | 2
        self.new.regs[RSP], self.new.cpl = frame[3], 3
        for name, n in (("cs", 1), ("ss", 4), ("es", 5), ("ds", 6), ("fs", 7), ("gs", 8)):
            selector = frame[n] & MASK16
            self.new.segs[name] = Segment(selector, selector << 4, MASK16, 0xF3)
        return self.new

    def iret_real(self) -> State:
        """Real mode, or virtual-8086 mode, where IOPL must be 3."""
        if self.old.v86 and self.old.iopl < 3:
            raise refused(GENERAL_PROTECTION)
        frame = self.pop(0, 3)
        code = self.old.segs["cs"]
        if frame[0] > code.limit:
            raise refused(GENERAL_PROTECTION)
        mask = self.stack_mask
        rsp = self.old.regs[RSP]
        self.new.regs[RSP] = rsp & ~mask & MASK64 | rsp + 3 * self.transfer.size & mask
        selector = frame[1] & MASK16
        self.new.segs["cs"] = replace(code, selector=selector, base=selector << 4)
        self.new.rip = frame[0]
        self.load_flags(frame[2], 3 if self.old.v86 else 0)
        return self.new
