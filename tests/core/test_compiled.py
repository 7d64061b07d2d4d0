"""Handlers that run inside the engine: what they see and answer, that they are handlers like others, and that one that
raises ends the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import hypervisor as hv
from hypervisor._face import CODE
from tests.core.bare import DATA, bare

DEVICE = 0xD0000000


@hv.compiled(words=4)
def note(state: Any, regs: Any, first: int, second: int, value: int) -> int:
    """Count the calls, and keep the arguments of the last one."""
    state[0] += 1
    state[1] = first
    state[2] = second
    state[3] = value
    return 0x1234_5678_9ABC_DEF0


@hv.compiled
def answer(state: Any, regs: Any, first: int, second: int, value: int) -> int:
    """Handle the exit: EAX is three times EBX, the other results are zero."""
    regs[0] = regs[3] * 3
    regs[1] = 0
    regs[2] = 0
    return 1


@hv.compiled
def passes(state: Any, regs: Any, first: int, second: int, value: int) -> int:
    """Leave the exit to the next one."""
    state[0] += 1
    return 0


@hv.compiled
def beyond(state: Any, regs: Any, first: int, second: int, value: int) -> int:
    """Use the guest's own number as an index."""
    state[regs[3]] = 7
    return 1


@hv.compiled
def opens(state: Any, regs: Any, first: int, second: int, value: int) -> int:
    """Do what numba cannot."""
    return len(open("/dev/null").read())


@hv.compiled
def divides(state: Any, regs: Any, first: int, second: int, value: int) -> int:
    """Divide by the guest's own number."""
    return int(100 // regs[3])


def calls(handler: Any) -> int:
    """How often it was called."""
    return int(handler.state[0])


@pytest.fixture(autouse=True)
def fresh() -> None:
    for handler in (note, answer, passes, beyond, divides):
        for n in range(len(handler.state)):
            handler.state[n] = 0


ACCESSES: dict[str, tuple[str, Callable[[Any], object], list[int], int | None]] = {
    "in": ("in al, 0x60", lambda vm: vm.traps.port_in(0x60, note), [1, 0x60, 1, 0], 0xF0),
    "in dword": ("in eax, 0x60", lambda vm: vm.traps.port_in(range(0x60, 0x64), note), [1, 0x60, 4, 0], 0x9ABCDEF0),
    "out": ("mov eax, 0x11223344; out 0x80, ax", lambda vm: vm.traps.port_out(0x80, note), [1, 0x80, 2, 0x3344], None),
    "load": (f"mov eax, [{DEVICE + 8:#x}]", lambda vm: vm.traps.mmio_read(range(DEVICE, DEVICE + 4096), note),
             [1, DEVICE + 8, 4, 0], 0x9ABCDEF0),
    "store": (f"mov eax, 0x55667788; mov [{DEVICE + 4:#x}], eax",
              lambda vm: vm.traps.mmio_write(range(DEVICE, DEVICE + 4096), note), [1, DEVICE + 4, 4, 0x55667788], None),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCESSES)
def test_accesses(name: str) -> None:
    """Ports and device memory: the handler sees address, size and value, and a read gets its result."""
    code, register, seen, result = ACCESSES[name]
    with bare(f"xor eax, eax; {code}; hlt") as vm:
        register(vm)
        assert vm.run().reason is hv.Reason.HALTED
        assert list(note.state) == seen
        if result is not None:
            assert vm.vcpu.rax == result


NUMBERED: dict[str, tuple[str, Callable[[Any, Any], object]]] = {
    "cpuid": ("mov eax, 0x40000000; xor ecx, ecx; cpuid", lambda traps, h: traps.cpuid(h, leaf=0x40000000)),
    "rdmsr": ("mov ecx, 0x1234; rdmsr", lambda traps, h: traps.rdmsr(0x1234, h)),
    "hypercall": ("mov eax, 9; vmmcall", lambda traps, h: traps.hypercall(h, number=9)),
}


@pytest.mark.parametrize("name", NUMBERED)
def test_answers(name: str) -> None:
    """CPUID, RDMSR and hypercalls: an answer in the registers ends the exit, and is counted once."""
    code, register = NUMBERED[name]
    with bare(f"mov ebx, 5; {code}; hlt") as vm:
        register(vm.traps, answer)
        result = vm.run()
        assert (result.reason, vm.vcpu.rax, result.exits[name]) == (hv.Reason.HALTED, 15, 1)


@pytest.mark.parametrize("name", NUMBERED)
def test_passing(name: str) -> None:
    """One that passes leaves the exit to the next compiled one, and then to handlers in Python: counted once."""
    code, register = NUMBERED[name]
    asked = []

    def python(vcpu: Any, exit: Any) -> Any:
        asked.append(calls(passes))
        vcpu.set("rbp", 77)
        if name == "rdmsr":
            exit.value = 1
        if name == "cpuid":
            exit.eax = exit.ebx = exit.ecx = exit.edx = 0
        return hv.HANDLED

    with bare(f"{code}; hlt") as vm:
        register(vm.traps, passes)
        getattr(vm.traps, name)(passes, name="broad")
        register(vm.traps, python)
        result = vm.run()
        assert result.reason is hv.Reason.HALTED
        assert asked == [2], "both compiled ones come first, the narrow and the broad"
        assert result.exits[name] == 1


def test_keys_narrow() -> None:
    """A handler for one leaf and subleaf is not asked about others."""
    code = "mov eax, 4; mov ecx, 1; cpuid; mov eax, 4; mov ecx, 2; cpuid; mov eax, 5; mov ecx, 2; cpuid; hlt"
    with bare(code) as vm:
        vm.traps.cpuid(passes, leaf=4, subleaf=2)
        vm.run()
    assert calls(passes) == 1


def test_the_narrower_is_asked_first() -> None:
    """Of two that serve a port, or an address, the narrower one does, whichever was registered first."""
    for narrow_first in (True, False):
        for n in range(4):
            note.state[n] = 0
        passes.state[0] = 0
        with bare(f"out 0x80, al; out 0x81, al; mov al, [{DEVICE}]; mov al, [{DEVICE + 64}]; hlt") as vm:
            handlers = [(note, range(0x80, 0x81), range(8)), (passes, range(0x80, 0x90), range(4096))]
            for handler, ports, offsets in handlers if narrow_first else reversed(handlers):
                vm.traps.port_out(ports, handler)
                vm.traps.mmio_read(range(DEVICE + offsets.start, DEVICE + offsets.stop), handler)
            vm.run()
        assert (calls(note), calls(passes)) == (2, 2), narrow_first


def test_names() -> None:
    """A compiled handler is listed, disabled, enabled, replaced and removed by its name."""
    changes: list[tuple[Callable[[Any], object], tuple[int, int]]] = [
        (lambda traps: None, (1, 0)),
        (lambda traps: traps.disable("post codes"), (1, 0)),
        (lambda traps: traps.enable("post codes"), (2, 0)),
        (lambda traps: traps.replace("post codes", passes), (2, 1)),
        (lambda traps: traps.remove("post codes"), (2, 1)),
    ]
    with bare("out 0x80, al; vmmcall") as vm:
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("done"))
        vm.traps.port_out(0x80, note, name="post codes")
        assert "post codes" in vm.traps.names()
        for change, expected in changes:
            change(vm.traps)
            vm.vcpu.rip = CODE
            assert vm.run().message == "done"
            assert (calls(note), calls(passes)) == expected
        assert "post codes" not in vm.traps.names()


def test_overlap_is_refused() -> None:
    """Two that would serve the same port, neither narrower, are an error that names both."""
    with bare("hlt") as vm:
        vm.traps.port_out(range(0x80, 0x84), note, name="one")
        with pytest.raises(hv.TrapError, match=r"handler 'two' .*port 0x82-0x85.* overlaps handler 'one'"):
            vm.traps.port_out(range(0x82, 0x86), passes, name="two")
        vm.traps.port_in(range(0x82, 0x86), passes, name="two")  # the other direction is free
        vm.traps.port_out(range(0x82, 0x86), lambda vcpu, exit: None, name="observer", mode="observe")


def test_refusals() -> None:
    """What cannot be compiled, and why."""
    with bare("hlt") as vm:
        with pytest.raises(hv.TrapError, match=r"handler 'note' for hlt cannot be compiled; only those for port_in, "):
            vm.traps.hlt(note)
        with pytest.raises(hv.TrapError, match="needs an address or a range"):
            vm.traps.port_in(note)
        with pytest.raises(hv.TrapError, match="leave mode= and when= out"):
            vm.traps.port_in(0x60, note, mode="observe")
        with pytest.raises(hv.TrapError, match=r"takes \(state, regs, first, second, value\), this one takes \(a\)"):
            vm.traps.port_in(0x60, hv.compiled(lambda a: 0))
        with pytest.raises(hv.TrapError, match="handler 'opens' cannot be compiled: "):
            vm.traps.port_in(0x60, opens)
        assert not {"note", "opens", "<lambda>"} & set(vm.traps.names()), "nothing is left of them"


RAISING: dict[str, tuple[str, Callable[[Any, Any], object]]] = {
    "cpuid": ("cpuid", lambda vm, h: vm.traps.cpuid(h)),
    "rdmsr": ("rdmsr", lambda vm, h: vm.traps.rdmsr(h)),
    "hypercall": ("vmmcall", lambda vm, h: vm.traps.hypercall(h)),
    "in": ("in al, 0x60", lambda vm, h: vm.traps.port_in(0x60, h)),
    "out": ("out 0x60, al", lambda vm, h: vm.traps.port_out(0x60, h)),
    "load": (f"mov al, [{DEVICE}]", lambda vm, h: vm.traps.mmio_read(range(DEVICE, DEVICE + 1), h)),
    "store": (f"mov [{DEVICE}], al", lambda vm, h: vm.traps.mmio_write(range(DEVICE, DEVICE + 1), h)),
}


@pytest.mark.parametrize("handler, number, error", [(beyond, 1000, IndexError), (divides, 0, ZeroDivisionError)])
@pytest.mark.parametrize("name", RAISING)
def test_raising_ends_the_run(name: str, handler: Any, number: int, error: type[Exception]) -> None:
    """A guest that leads a handler out of its array, or to divide by zero, ends its own run with the traceback, at the
    instruction; nothing behind it runs. The VM runs on when asked to.
    """
    code, register = RAISING[name]
    with bare(f"mov ebx, {number}; nop; {code}; mov byte ptr [{DATA}], 1; hlt") as vm:
        register(vm, handler)
        result = vm.run()
        assert result.reason is hv.Reason.HOST_ERROR
        assert isinstance(result.error, error)
        assert vm.memory.read(DATA, 1) == b"\0"
        vm.vcpu.rbx = 1
        handler.state[0] = 0
        if handler is beyond:
            vm.vcpu.rbx = 0
        assert vm.run().reason is hv.Reason.HALTED
        assert vm.memory.read(DATA, 1) == b"\1"
