"""Guests with several vCPUs and the least of an interrupt controller, made of trap handlers.

Ports (32-bit OUT; the value is the number of a vCPU in bits 7:0 and a vector in bits 15:8): 0x100 INIT, 0x101 startup
IPI, 0x102 interrupt, 0x103 NMI. IN from 0x104 is the caller's number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypervisor as hv
from hypervisor._face import CODE, STACK
from hypervisor.assembler import assemble
from hypervisor.machine.bare import prepare
from tests.core.bare import with_idt

TRAMPOLINE = 0x8000
"""Where startup IPIs with vector 8 begin."""

PORTS = range(0x100, 0x105)


class Vectors:
    """A vCPU's interrupt controller: vectors in the order in which they were sent, each once."""

    def __init__(self, vcpu: hv.Vcpu) -> None:
        self._vcpu = vcpu
        self._queue: deque[int] = deque()
        vcpu.interrupt_controller = self

    def send(self, vector: int) -> None:
        """Request an interrupt."""
        if vector not in self._queue:
            self._queue.append(vector)
        self._vcpu.intr.raise_()

    def pending(self) -> bool:
        """Whether one is requested."""
        return bool(self._queue)

    def acknowledge(self) -> int:
        """The vector to deliver."""
        vector = self._queue.popleft()
        if not self._queue:
            self._vcpu.intr.lower()
        return vector


def connect(vm: hv.VM) -> list[Vectors]:
    """Give every vCPU its `Vectors`, and the guest the ports."""
    controllers = [Vectors(vcpu) for vcpu in vm.vcpus]

    @vm.traps.port_out(PORTS)
    def send(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        number, vector = exit.value & 0xFF, exit.value >> 8 & 0xFF
        target = vm.vcpus[number % vm.cpus]
        if exit.port == 0x100:
            target.init()
        elif exit.port == 0x101:
            target.startup(vector)
        elif exit.port == 0x102:
            controllers[number % vm.cpus].send(vector)
        else:
            target.nmi()
        return hv.HANDLED

    @vm.traps.port_in(PORTS)
    def who(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        exit.value = vcpu.number
        return hv.HANDLED

    return controllers


@contextmanager
def machine(code: str, cpus: int, ap: str = "", host: hv.Host | None = None, **options: Any) -> Iterator[hv.VM]:
    """A VM whose first vCPU runs 16-bit ``code`` at 0x1000; others, once started at `TRAMPOLINE`, run ``ap``."""
    image = assemble(".code16\n" + code, origin=0x1000, mode=16).code
    own = host or hv.Host("2M", 1)
    try:
        with own.create_vm(image, memory="1M", format="flat", at=0x1000, mode=16, cpus=cpus, **options) as vm:
            if ap:
                vm.memory.write(TRAMPOLINE, assemble(".code16\n" + ap, origin=0, mode=16).code)
            connect(vm)
            yield vm
    finally:
        if host is None:
            own.close()


@contextmanager
def long_mode(
    codes: list[str], host: hv.Host | None = None, handlers: dict[int, str] | None = None, clock: str = "virtual"
) -> Iterator[hv.VM]:
    """A bare VM whose vCPUs run ``codes`` in 64-bit mode, each on a stack of its own; ``handlers`` by vector."""
    own = host or hv.Host("2M", 1)
    try:
        with hv.VM(own, hv.MachineConfig(memory="1M", name="smp", clock=clock, cpus=len(codes))) as vm:
            prepare(vm, assemble(codes[0], origin=CODE, mode=64).code, 64, CODE, STACK)
            connect(vm)
            with_idt(vm, handlers or {})
            first = vm.vcpu
            for number, code in enumerate(codes[1:], 1):
                vcpu, at = vm.vcpus[number], CODE + 0x1000 * number
                vm.memory.write(at, assemble(code, origin=at, mode=64).code)
                vcpu.startup(0)
                for name in ("es", "cs", "ss", "ds", "fs", "gs", "gdtr", "idtr"):
                    setattr(vcpu, name, getattr(first, name))
                for name in ("cr3", "cr4", "efer", "cr0"):
                    vcpu.set(name, first.get(name))
                vcpu.rip, vcpu.rsp = at, STACK - 0x1000 * number
            yield vm
    finally:
        if host is None:
            own.close()
