"""Traps that come and go while a guest runs: what its handlers saw, against what it did.

The guest is a loop of instructions whose order is known. Each handler notes its call, then may add, remove, disable
or enable traps. From these notes alone it follows which instruction has to be seen next: so `Seen.check` walks through
all that the guest has executed and asks for each whether its exit is there if, and only if, it was trapped by then.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import hypervisor as hv
from tests.core.bare import CODE, DATA, addresses, bare, with_idt

PAGE = 0x1000
FAR, VIRTUAL, PHYSICAL = 0x11000, 0x12000, 0x13000
"""Pages of code: of functions that are watched by linear address, and by guest-physical one."""
MMIO = 0xD000_0000
LINEAR = DATA + PAGE
"""Data watched by linear address."""

Register = Callable[..., hv.Trap]

TRAPS: dict[str, Callable[[hv.VM], Register]] = {
    "cpuid": lambda vm: vm.traps.cpuid,
    "rdtsc": lambda vm: vm.traps.rdtsc,
    "pause": lambda vm: vm.traps.pause,
    "invlpg": lambda vm: vm.traps.invlpg,
    "pushf": lambda vm: vm.traps.pushf,
    "popf": lambda vm: vm.traps.popf,
    "sgdt": lambda vm: vm.traps.sgdt,
    "rdmsr": lambda vm: _with(vm.traps.rdmsr, [0x10, 0xC0000080]),
    "wrmsr": lambda vm: _with(vm.traps.msr, range(0xC0000080, 0xC0000081), access="w"),
    "cr_read": lambda vm: _with(vm.traps.cr_read, 3),
    "cr_write": lambda vm: _with(vm.traps.cr_write, 3),
    "int3": lambda vm: _with(vm.traps.exception, hv.BP),
    "in": lambda vm: _with(vm.traps.port_in, [0x60, 0x80]),
    "out": lambda vm: _with(vm.traps.port, 0x80, access="w"),
    "load": lambda vm: _with(vm.traps.mmio_read, range(MMIO, MMIO + PAGE)),
    "store": lambda vm: _with(vm.traps.mmio, range(MMIO, MMIO + PAGE), access="w"),
    "read": lambda vm: _with(vm.traps.memory, range(DATA, DATA + 8), access="r"),
    "write": lambda vm: _with(vm.traps.memory, [range(DATA, DATA + 4), range(DATA + 4, DATA + 8)], access="w"),
    "linear read": lambda vm: _with(vm.traps.memory, range(LINEAR, LINEAR + 8), access="r", space="virtual"),
    "linear write": lambda vm: _with(vm.traps.memory, range(LINEAR, LINEAR + 8), access="w", space="virtual"),
    "linear fetch": lambda vm: _with(vm.traps.memory, range(VIRTUAL, VIRTUAL + 64), access="x", space="virtual"),
    "fetch": lambda vm: _with(vm.traps.memory, range(PHYSICAL, PHYSICAL + 64), access="x"),
}
"""By name, what registers each trap."""

IN_PLACE = frozenset(("in", "out", "load", "store", "read", "write", "linear read", "linear write"))
"""Traps whose handlers are called in the middle of an instruction."""


def _with(register: Register, key: Any, **options: Any) -> Register:
    return lambda fn, **more: register(key, fn, **options, **more)


class Step(NamedTuple):
    """One instruction, the traps that see it in their order, and whether a block begins with it."""

    code: str
    traps: tuple[str, ...] = ()
    block: bool = False


def _function(trap: str) -> list[Step]:
    return [
        Step("nop", (trap,), True),
        Step(f"mov eax, [{DATA}]", (trap, "read")),
        Step(f"mov [{LINEAR}], eax", (trap, "linear write")),
        Step("ret", (trap,)),
    ]


TOUCH = [
    Step(f"mov eax, [{LINEAR}]", ("linear read",)), Step(f"mov [{LINEAR}], eax", ("linear write",)),
    Step(f"mov eax, [{DATA}]", ("read",)), Step(f"mov [{DATA}], eax", ("write",)),
]  # fmt: skip
"""Around the call that changes most: translations that were made before it."""

BODY = [
    *TOUCH, Step("vmmcall", ("hypercall",), True), *TOUCH,
    Step("xor eax, eax"), Step("cpuid", ("cpuid",)), Step("rdtsc", ("rdtsc",)), Step("pause", ("pause",)),
    Step("nop", ("at 1",)),
    Step("in al, 0x60", ("in",)), Step("out 0x80, al", ("out",)), Step("nop", ("at 2",)),
    Step("rdtsc", ("rdtsc",)), Step(f"invlpg [{DATA}]", ("invlpg",)),
    Step("mov ecx, 0xc0000080"), Step("rdmsr", ("rdmsr",)), Step("wrmsr", ("wrmsr",)),
    Step(f"mov eax, [{DATA}]", ("read",)), Step(f"mov [{DATA + 4}], eax", ("write",)), Step("cpuid", ("cpuid",)),
    Step(f"mov rbx, {MMIO}"), Step("mov eax, [rbx]", ("load",)), Step("mov [rbx + 8], eax", ("store",)),
    Step(f"add dword ptr [{DATA}], 3", ("read", "write")), Step("pushfq", ("pushf",)), Step("popfq", ("popf",)),
    Step("jmp n3"), Step("n3: nop", ("at 3",), True), Step(f"sgdt [{DATA + 0x100}]", ("sgdt",)),
    Step(f"call {VIRTUAL}"), *_function("linear fetch"), Step("rdtsc", ("rdtsc",), True),
    Step(f"mov eax, [{LINEAR}]", ("linear read",)),
    Step(f"inc dword ptr [{LINEAR + 4}]", ("linear read", "linear write")),
    Step("in al, 0x80", ("in",)), Step(f"call {PHYSICAL}"), *_function("fetch"),
    Step("mov rax, cr3", ("cr_read",), True), Step("mov cr3, rax", ("cr_write",)), Step("int3", ("int3",)),
    Step("mov [rbx], al", ("store",)), Step("jmp n4"), Step("n4: nop", ("at 4",), True), Step("nop", ("at 5",)),
]  # fmt: skip
"""One round, in the order in which it is executed."""

PLACES = tuple(name for step in BODY for name in step.traps if name.startswith("at "))
FETCHED = frozenset((*PLACES, "fetch", "linear fetch"))
"""Traps that are looked at where a block begins."""


class Note(NamedTuple):
    """What a handler has done: it was called ("hit"), or changed a trap ("add", "once", "on", "off", "drop")."""

    what: str
    trap: str
    rip: int = 0


def _program(rounds: int) -> tuple[str, list[int]]:
    """The source, and the address of each step."""
    main, functions, current = [], {VIRTUAL: list[Step](), PHYSICAL: list[Step]()}, 0
    for step in BODY:
        if current:
            functions[current].append(step)
            current = 0 if step.code == "ret" else current
        else:
            main.append(step)
            if step.code.startswith("call"):
                current = int(step.code.split()[1])
    text = "; ".join(step.code for step in main)
    source = f"mov r15d, {rounds}; again: {text}; dec r15; jnz again; hlt"
    at = iter(addresses(source)[1:])
    inside = {
        page: iter([address - CODE + page for address in addresses("; ".join(step.code for step in steps))])
        for page, steps in functions.items()
    }
    places, current = [], 0
    for step in BODY:
        places.append(next(inside[current] if current else at))
        if current and step.code == "ret":
            current = 0
        elif step.code.startswith("call"):
            current = int(step.code.split()[1])
    for page, steps in functions.items():
        source += f"; .org {page}; " + "; ".join(step.code for step in steps)
    return source, places


class Seen:
    """One run, with all that was noted."""

    def __init__(self, seed: int, rounds: int, clock: str = "virtual", likely: float = 0.15) -> None:
        self._choice, self._likely, self._rounds, self._clock = random.Random(seed), likely, rounds, clock
        self.notes: list[Note] = []
        self.source, self._places = _program(rounds)
        self._end = addresses(self.source.partition("; .org")[0])[-2]
        self._addresses = {
            name: place for step, place in zip(BODY, self._places, strict=True) for name in step.traps if name in PLACES
        }
        self._traps: dict[str, hv.Trap] = {}
        self._off: set[str] = set()

    def run(self, stepped: bool = False) -> hv.RunResult:
        """Run the guest to its end; by single steps up to its last instruction, if so."""
        with bare(self.source, clock=self._clock) as vm:
            with_idt(vm, {3: "iretq"})
            self._vm = vm
            vm.traps.hypercall(self._handler("hypercall"), name="round")
            while stepped and vm.vcpu.rip != self._end:
                assert vm.vcpu.step() == 1
            result = vm.run(timeout=120)
            self.left = [name for name in vm.traps.names() if name in self._traps]
        return result

    def _handler(self, trap: str) -> Callable[[hv.Vcpu, hv.Exit], hv.Verdict]:
        def handler(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            self.notes.append(Note("hit", trap, exit.rip))
            while self._choice.random() < (0.8 if trap == "hypercall" else self._likely):
                self._change()
            return hv.HANDLED if trap == "hypercall" else hv.PASS

        return handler

    def _change(self) -> None:
        trap = self._choice.choice((*TRAPS, *PLACES))
        known = self._traps.get(trap)
        if known is None or not known.registered:
            once = self._choice.random() < 0.3
            register = TRAPS[trap](self._vm) if trap in TRAPS else _with(self._vm.traps.execute, self._addresses[trap])
            self._traps[trap] = register(self._handler(trap), name=trap, once=once)
            self._off.discard(trap)
            self.notes.append(Note("once" if once else "add", trap))
        elif trap in self._off:
            known.enable()
            self._off.discard(trap)
            self.notes.append(Note("on", trap))
        elif self._choice.random() < 0.5:
            known.disable()
            self._off.add(trap)
            self.notes.append(Note("off", trap))
        else:
            known.remove()
            self.notes.append(Note("drop", trap))

    def check(self) -> None:
        """Compare what was seen with what the guest has executed."""
        walk = _Walk(self.notes)
        for turn in range(self._rounds):
            for step, place in zip(BODY, self._places, strict=True):
                walk.step(step, place, f"round {turn}, {step.code} at {place:#x}")
        walk.end()


class _Walk:
    """The notes, as far as what was executed has led to."""

    def __init__(self, notes: list[Note]) -> None:
        self._notes, self._at = notes, 0
        self._on = {"hypercall"}
        """Traps that are there, and enabled."""
        self._once: set[str] = set()
        self._unsure: set[str] = set()
        """Those of fetches that came in the middle of an instruction of the block that goes on."""

    def step(self, step: Step, place: int, where: str) -> None:
        if step.block:
            self._unsure.clear()
        changed = False  # the rest of an instruction may be seen or not when a part of it has changed traps
        for trap in step.traps:
            note = self._notes[self._at] if self._at < len(self._notes) else None
            seen = note is not None and note == ("hit", trap, place)
            if trap not in self._unsure and not changed:
                assert seen == (trap in self._on), f"{where}: {trap} {'seen' if seen else 'missed'}, next {note}"
            if seen:
                self._at += 1
                if trap in self._once:
                    self._on.discard(trap)
                changed = self._follow(in_place=trap in IN_PLACE) or changed

    def _follow(self, *, in_place: bool) -> bool:
        """Take over what a handler has changed; whether it has changed anything."""
        before = self._at
        while self._at < len(self._notes) and self._notes[self._at].what != "hit":
            what, trap, _ = self._notes[self._at]
            self._at += 1
            if what in ("off", "drop"):
                self._on.discard(trap)
                self._unsure.discard(trap)
                continue
            self._on.add(trap)
            if what != "on":
                (self._once.add if what == "once" else self._once.discard)(trap)
            if in_place and trap in FETCHED:
                self._unsure.add(trap)
        return self._at > before

    def end(self) -> None:
        assert self._at == len(self._notes), self._notes[self._at : self._at + 5]
