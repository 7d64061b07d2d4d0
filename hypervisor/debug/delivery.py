"""One attempt to deliver an event, made again on paper: which check of the IDT, GDT, TSS or stack refuses it.

AMD64 APM volume 2, 8.6 (real mode), 8.7 (protected mode), 8.9 (long mode). The guest's registers and memory are read
as they are at the crash, which is as they were then: a delivery that fails changes nothing but CR2. Independent of the
engine, which found the same failure on its way and recorded only the exceptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from hypervisor.arch import flags, segments
from hypervisor.arch.vectors import ERROR_CODE_VECTORS, GP, NP, SS, TS
from hypervisor.debug.descriptor_tables import TASK_GATE, Descriptor, Gate, beyond, count, table_of
from hypervisor.debug.walk import Walk, read_physical, walk
from hypervisor.traps.history import EXCEPTION, SOFTWARE
from hypervisor.units import by_pages

_MASK64 = (1 << 64) - 1


class Event(NamedTuple):
    """Something to deliver: ``error`` is None where none is pushed, ``address`` is CR2 of a page fault."""

    vector: int
    error: int | None = None
    origin: int = EXCEPTION
    address: int | None = None
    from_int_n: bool = True


class Refusal(Exception):
    """A check that fails: the exception that it raises, the step's name, and why, as a sentence."""

    def __init__(self, step: str, vector: int, error: int, why: str, page: Walk | None = None) -> None:
        super().__init__(why)
        self.step, self.vector, self.error, self.why, self.page = step, vector, error, why, page


@dataclass
class Attempt:
    """An attempt, as far as it got: gate and stack in words, and the refusal (None: the event was delivered).

    ``sp`` is the stack pointer that the frame goes to, ``stack_from`` what gave it ("RSP", "IST 1", "RSP0"), ``code``
    the gate's selector.
    """

    event: Event
    gate: Gate | None = None
    gate_words: str = ""
    code: Descriptor | None = None
    sp: int | None = None
    stack_from: str = ""
    stack_words: str = ""
    task_gate: bool = False
    refusal: Refusal | None = None


def attempt(vcpu: Any, event: Event) -> Attempt:
    """Deliver ``event`` on paper in the vCPU's present mode."""
    made = Attempt(event)
    delivery = _Delivery(vcpu, made)
    try:
        if not vcpu.cr0 & flags.CR0_PE:
            delivery.real()
        elif vcpu.efer & flags.EFER_LMA:
            delivery.long()
        else:
            delivery.protected()
    except Refusal as refusal:
        made.refusal = refusal
    return made


class _Delivery:
    """The steps, in the processor's order."""

    def __init__(self, vcpu: Any, made: Attempt) -> None:
        self._vcpu = vcpu
        self._made = made
        event = made.event
        self._ext = 0 if event.origin == SOFTWARE else 1
        self._idt_error = event.vector * 8 + 2 + self._ext
        self._coded = event.origin == EXCEPTION and event.vector in ERROR_CODE_VECTORS

    # --- memory -------------------------------------------------------------------------------------------------------

    def _parts(self, at: int, size: int) -> Iterator[tuple[int, int]]:
        return by_pages(at, size, _MASK64 if self._vcpu.efer & flags.EFER_LMA else 0xFFFF_FFFF)

    def _check(self, step: str, what: str, at: int, size: int, access: str, user: bool, implicit: bool) -> list[Walk]:
        """Walks of both pages of an access, or the first one's fault."""
        walks = []
        for part, _ in self._parts(at, size):
            found = walk(self._vcpu, part, access, user, implicit)
            if found.vector is not None:
                raise Refusal(step, found.vector, found.error, f"{what}: {found}", found)
            walks.append(found)
        return walks

    def _read(self, step: str, what: str, at: int, size: int) -> int:
        """A descriptor table or the TSS, as the processor reads it."""
        walks = self._check(step, what, at, size, "read", False, True)
        data = b"".join(
            read_physical(self._vcpu, found.gpa or 0, length)
            for found, (_, length) in zip(walks, self._parts(at, size), strict=True)
        )
        return int.from_bytes(data, "little")

    def _push(self, at: int, size: int, ring: int) -> None:
        what = f"the processor cannot push the interrupt frame at {at:#x}"
        self._check("push", what, at, size, "write", ring == 3, False)

    # --- shared steps -------------------------------------------------------------------------------------------------

    def _gate(self, size: int) -> Gate:
        vcpu, event = self._vcpu, self._made.event
        vector, limit = event.vector, vcpu.idtr.limit
        if vector * size + size - 1 > limit:
            room = count((limit + 1) // size, "gate", "gates")
            why = f"the IDT ends before entry {vector}: its limit {limit:#x} has room for {room}"
            raise Refusal("idt-limit", GP, self._idt_error, why)
        at = vcpu.idtr.base + vector * size
        gate = Gate(self._read("idt-read", f"IDT entry {vector} cannot be read", at, size), size == 16)
        if not gate.usable:
            unknown = ", which long mode does not have" if gate.long_mode and str(gate).startswith("a ") else ""
            raise Refusal("gate-type", GP, self._idt_error, f"IDT entry {vector} is {gate}{unknown}")
        self._made.gate = gate
        if event.origin == SOFTWARE and gate.dpl < vcpu.cpl:
            why = f"IDT entry {vector} has DPL {gate.dpl}: ring {vcpu.cpl} may not use it with INT"
            raise Refusal("gate-dpl", GP, self._idt_error, why)
        if not gate.present:
            raise Refusal(
                "gate-present", NP, self._idt_error, f"IDT entry {vector} is not present (its P bit is clear)"
            )
        return gate

    def _describe(self, gate: Gate) -> None:
        ist = f", IST {gate.ist}" if gate.ist else ""
        self._made.gate_words = f"{gate} to {gate.selector:#x}:{gate.offset:#x}{ist}"

    def _code_segment(self, gate: Gate) -> Descriptor:
        selector, cpl = gate.selector, self._vcpu.cpl
        error = selector & 0xFFFC | self._ext
        what = f"the gate's code segment {selector:#x}"
        if not selector & 0xFFFC:
            raise Refusal("code-null", GP, self._ext, f"the gate names no code segment (selector {selector:#x})")
        if why := beyond(self._vcpu, selector):
            raise Refusal("code-limit", GP, error, f"{what} {why}")
        table, base, _ = table_of(self._vcpu, selector)
        at = base + (selector & 0xFFF8)
        code = Descriptor(self._read("code-read", f"{what} cannot be read from the {table}", at, 8))
        if not code.is_code:
            raise Refusal("code-type", GP, error, f"{what} is {code}, not a code segment")
        if code.dpl > cpl:
            raise Refusal("code-dpl", GP, error, f"{what} is {code}, and an event cannot lead from ring {cpl} there")
        if gate.long_mode and not code.is_64_bit:
            raise Refusal("code-bits", GP, error, f"{what} is {code}; in long mode a handler's must be 64-bit code")
        if not code.present:
            raise Refusal("code-present", NP, error, f"{what} is {code}")
        self._made.code = code
        return code

    def _mark_accessed(self, selector: int, descriptor: Descriptor, what: str) -> None:
        """Loading a segment sets its accessed bit, which is a write."""
        if not descriptor.raw >> 40 & 1:
            table, base, _ = table_of(self._vcpu, selector)
            why = f"{what} {selector:#x} cannot be marked accessed in the {table}"
            self._check("mark", why, base + (selector & 0xFFF8) + 5, 1, "write", False, True)

    def _from_tss(self, offset: int, size: int, what: str) -> int:
        """A stack out of the TSS."""
        tr = self._vcpu.tr
        if offset + size - 1 > tr.limit:
            why = f"the TSS (limit {tr.limit:#x}) ends before {what}"
            raise Refusal("tss-limit", TS, tr.selector & 0xFFFC | self._ext, why)
        return self._read("tss-read", f"{what} cannot be read from the TSS", tr.base + offset, size)

    def _stack(self, sp: int, name: str, words: str) -> None:
        made = self._made
        made.sp, made.stack_from, made.stack_words = sp & _MASK64, name, f"{sp & _MASK64:#x}, {words}"

    # --- the modes ----------------------------------------------------------------------------------------------------

    def long(self) -> None:
        """64-bit and compatibility mode: APM volume 2, 8.9."""
        vcpu, event = self._vcpu, self._made.event
        gate = self._gate(16)
        self._describe(gate)
        code = self._code_segment(gate)
        dpl = vcpu.cpl if code.conforming else code.dpl
        if gate.ist:
            sp = self._from_tss(0x24 + 8 * (gate.ist - 1), 8, f"IST {gate.ist}")
            self._stack(sp, f"IST {gate.ist}", f"from IST {gate.ist} of the TSS at {vcpu.tr.base:#x}")
        elif dpl < vcpu.cpl:
            sp = self._from_tss(4 + 8 * dpl, 8, f"RSP{dpl}")
            self._stack(sp, f"RSP{dpl}", f"from RSP{dpl} of the TSS at {vcpu.tr.base:#x}")
        else:
            sp = vcpu.rsp
            self._stack(sp, "RSP", "the interrupted code's")
        sp &= ~15 & _MASK64
        frame = 48 if self._coded else 40
        if not (_canonical(sp - 8) and _canonical(sp - frame)):
            why = f"the stack pointer {sp:#x} ({self._made.stack_from}) is not canonical"
            raise Refusal("stack-canonical", SS, self._ext, why)
        if not _canonical(gate.offset):
            why = f"the handler's address {gate.offset:#x} in IDT entry {event.vector} is not canonical"
            raise Refusal("target", GP, self._ext, why)
        for at in range(sp - 8, sp - frame - 1, -8):
            self._push(at & _MASK64, 8, dpl)
        self._mark_accessed(gate.selector, code, "code segment")

    def protected(self) -> None:
        """16- and 32-bit protected mode and virtual-8086 mode: APM volume 2, 8.7 and 8.8."""
        vcpu, event = self._vcpu, self._made.event
        vm86 = bool(vcpu.rflags & flags.RFLAGS_VM)
        if vm86 and event.origin == SOFTWARE and event.from_int_n and vcpu.rflags >> flags.RFLAGS_IOPL_SHIFT & 3 < 3:
            raise Refusal("iopl", GP, 0, f"INT {event.vector:#x} in virtual-8086 mode needs IOPL 3")
        gate = self._gate(8)
        self._describe(gate)
        if gate.type == TASK_GATE:
            self._made.task_gate = True
            return
        code = self._code_segment(gate)
        dpl = vcpu.cpl if code.conforming else code.dpl
        if vm86 and dpl != 0:
            why = f"from virtual-8086 mode an event must lead to ring 0, and segment {gate.selector:#x} is {code}"
            raise Refusal("code-v86", GP, gate.selector & 0xFFFC | self._ext, why)
        inner = dpl < vcpu.cpl
        if inner:
            sp, ss, stack = self._inner_stack(dpl)
            base, attributes, limit = stack.base, stack.attributes, stack.limit
        else:
            sp, ss, stack = vcpu.rsp, 0, None
            base, attributes, limit = vcpu.ss.base, vcpu.ss.attributes, vcpu.ss.limit
            self._stack(sp & 0xFFFF_FFFF, "ESP", "the interrupted code's")
        mask = 0xFFFF_FFFF if attributes & segments.BIG else 0xFFFF
        items = 3 + self._coded + 2 * inner + 4 * vm86
        if not _room(attributes, limit, sp & mask, mask, gate.wide, items):
            why = f"the frame does not fit below {sp & mask:#x} in the stack segment (limit {limit:#x})"
            raise Refusal("stack-limit", SS, ss & 0xFFFC | self._ext, why)
        if gate.offset > code.limit:
            why = f"the handler's offset {gate.offset:#x} lies beyond its code segment's limit {code.limit:#x}"
            raise Refusal("target", GP, self._ext, why)
        self._push_legacy(base, sp & mask, mask, gate.wide, items, dpl)
        self._mark_accessed(gate.selector, code, "code segment")
        if stack is not None:
            self._mark_accessed(ss, stack, "stack segment")

    def _inner_stack(self, ring: int) -> tuple[int, int, Descriptor]:
        """ESP and SS of a more privileged ring, checked (APM volume 2, 8.7.2)."""
        vcpu = self._vcpu
        wide = bool(vcpu.tr.attributes & 8)
        name = f"SS{ring}:ESP{ring}" if wide else f"SS{ring}:SP{ring}"
        if wide:
            pair = self._from_tss(4 + 8 * ring, 6, name)
            sp, ss = pair & 0xFFFF_FFFF, pair >> 32
        else:
            pair = self._from_tss(2 + 4 * ring, 4, name)
            sp, ss = pair & 0xFFFF, pair >> 16
        self._stack(sp, name, f"from {name} ({ss:#x}) of the TSS at {vcpu.tr.base:#x}")
        error = ss & 0xFFFC | self._ext
        what = f"the stack segment {ss:#x} that the TSS names for ring {ring}"
        if not ss & 0xFFFC:
            raise Refusal(
                "stack-null", TS, self._ext, f"the TSS names no stack segment for ring {ring} (SS{ring} is 0)"
            )
        if ss & 3 != ring:
            raise Refusal("stack-rpl", TS, error, f"{what} has RPL {ss & 3}")
        if why := beyond(vcpu, ss):
            raise Refusal("stack-limit", TS, error, f"{what} {why}")
        table, base, _ = table_of(vcpu, ss)
        at = base + (ss & 0xFFF8)
        stack = Descriptor(self._read("stack-read", f"{what} cannot be read from the {table}", at, 8))
        if stack.dpl != ring or stack.raw >> 43 & 3 != 2 or not stack.raw >> 41 & 1:
            raise Refusal("stack-type", TS, error, f"{what} is {stack}, not writable data of ring {ring}")
        if not stack.present:
            raise Refusal("stack-present", SS, error, f"{what} is {stack}")
        return sp, ss, stack

    def real(self) -> None:
        """Real mode: a table of far pointers, no error codes (APM volume 2, 8.6)."""
        vcpu, vector = self._vcpu, self._made.event.vector
        if vector * 4 + 3 > vcpu.idtr.limit:
            why = f"the vector table ends before entry {vector}: its limit is {vcpu.idtr.limit:#x}"
            raise Refusal("idt-limit", GP, 0, why)
        what = f"entry {vector} of the vector table cannot be read"
        entry = self._read("idt-read", what, vcpu.idtr.base + 4 * vector, 4)
        self._made.gate_words = f"vector table entry to {entry >> 16:#06x}:{entry & 0xFFFF:#06x}"
        mask = 0xFFFF_FFFF if vcpu.ss.attributes & segments.BIG else 0xFFFF
        sp = vcpu.rsp & mask
        self._stack(vcpu.ss.base + sp, "SS:SP", "the interrupted code's")
        if not _room(vcpu.ss.attributes, vcpu.ss.limit, sp, mask, 2, 3):
            raise Refusal("stack-limit", SS, 0, f"the frame does not fit below SP {sp:#x} in the stack segment")
        if entry & 0xFFFF > vcpu.cs.limit:
            raise Refusal("target", GP, 0, f"the handler's offset {entry & 0xFFFF:#x} lies beyond the limit of CS")
        self._push_legacy(vcpu.ss.base, sp, mask, 2, 3, 0)

    def _push_legacy(self, base: int, sp: int, mask: int, size: int, items: int, ring: int) -> None:
        for _ in range(items):
            sp = sp - size & mask
            self._push(base + sp & 0xFFFF_FFFF, size, ring)


def _canonical(address: int) -> bool:
    return (address & _MASK64) >> 47 in (0, 0x1FFFF)


def _room(attributes: int, limit: int, sp: int, mask: int, size: int, items: int) -> bool:
    """Whether the pushes stay inside a stack segment (APM volume 2, 4.12)."""
    expand_down = attributes & 0xC == 4
    last = 0xFFFF_FFFF if attributes & segments.BIG else 0xFFFF
    for _ in range(items):
        sp = sp - size & mask
        if (sp <= limit or sp + size - 1 > last) if expand_down else sp + size - 1 > limit:
            return False
    return True
