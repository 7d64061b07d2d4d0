"""Mistakes with devices, with runs, with closed VMs, and in what is assembled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import hypervisor as hv
from hypervisor.errors import (
    ConfigError,
    DeviceError,
    GuestFault,
    HypervisorError,
)
from tests.bad_input.cases import HALT, LOOP, Case, with_vm


class Device:
    """The least that a device can be."""

    name = "mine"

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        return None

    def reset(self) -> None:
        return None

    def state(self) -> None:
        return None

    def restore(self, state: object) -> None:
        return None


class LateDevice(Device):
    """One whose answer nobody waits for."""

    async def read(self, offset: int, size: int) -> int:  # type: ignore[override]
        return 0


def run_closed(vm: hv.VM) -> object:
    vm.close()
    return vm.run()


def closed(do: Callable[[hv.VM], object]) -> Callable[[hv.VM], object]:
    """The same, once the VM is closed."""

    def close_and_do(vm: hv.VM) -> object:
        vm.close()
        return do(vm)

    return close_and_do


def read_closed(vm: hv.VM) -> object:
    vm.close()
    return vm.memory.read(0, 4)


def translate_closed(_: Path) -> object:
    with hv.Host("8M") as host:
        vm = host.create_vm(HALT, memory="4M")
        vm.close()
        return vm.vcpu.read(0, 4)


def close_while_running(_: Path) -> object:
    with hv.boot(LOOP, memory="4M") as vm:
        running = threading.Event()
        vm.traps.int_n(lambda vcpu, exit: hv.PASS)
        thread = threading.Thread(target=lambda: vm.run(until=lambda: bool(running.set()), timeout=20))
        thread.start()
        assert running.wait(20)
        try:
            return vm.close()
        finally:
            vm.request_stop()
            thread.join(20)


def attach_late(vm: hv.VM) -> object:
    vm.run(timeout=20)
    return vm.attach(Device(), ports=range(0x300, 0x301))


CASES = (
    # devices
    with_vm("a device in the way", lambda vm: vm.attach(Device(), ports=range(0x3F8, 0x400)), DeviceError,
            "overlaps uart0 at 0x3f8-0x3ff. Choose another range, or pass replace=True"),
    with_vm("a device nowhere", lambda vm: vm.attach(Device()), DeviceError, "say where it answers"),
    with_vm("a device at a number", lambda vm: vm.attach(Device(), ports=0x300), DeviceError, "is not a range of I/O"),
    with_vm("not a device", lambda vm: vm.attach(object(), ports=range(1)), DeviceError, "it has no name, read"),
    with_vm("an interrupt beyond", lambda vm: vm.attach(Device(), ports=range(1), irq=99), DeviceError, "99"),
    with_vm("a late device", attach_late, DeviceError, "Devices are attached before the VM's first run."),
    with_vm("a late device's", lambda vm: vm.attach(LateDevice(), ports=range(1)), DeviceError, "mine.read: calling"),
    # runs
    with_vm("running a closed VM", run_closed, ConfigError, "is closed; boot another one"),
    with_vm("a trap of a closed VM", closed(lambda vm: vm.traps.hlt(print)), ConfigError, "is closed; boot"),
    with_vm("a port of a closed VM", closed(lambda vm: vm.serial[0].send("x")), ConfigError, "is closed; boot another"),
    with_vm("a console that is closed", closed(lambda vm: vm.console.send("x")), ConfigError, "is closed; boot"),
    with_vm("a keyboard that is closed", closed(lambda vm: vm.keyboard.type("x")), ConfigError, "is closed; boot"),
    with_vm("a mouse that is closed", closed(lambda vm: vm.mouse.move(1, 0)), ConfigError, "is closed; boot another"),
    with_vm("a device of a closed VM", closed(lambda vm: vm.attach(Device(), range(1))), ConfigError, "is closed;"),
    with_vm("a log of a closed VM", closed(lambda vm: vm.log("io")), ConfigError, "is closed; boot another one"),
    with_vm("memory of a closed VM", read_closed, ConfigError, "The VM is closed"),
    Case("a vCPU of a closed VM", translate_closed, ConfigError, "is closed, and its state is gone"),
    Case("closing while it runs", close_while_running, ConfigError, "end its run before closing it"),
    with_vm("until a number", lambda vm: vm.run(until=5), ConfigError, "until=5: give a text, a compiled regular"),
    with_vm("a negative timeout", lambda vm: vm.run(timeout=-1), ConfigError, "timeout=-1: give a number of seconds"),
    with_vm("a timeout in words", lambda vm: vm.run(virtual_timeout="1"), ConfigError, "virtual_timeout='1': give"),
    with_vm("a log of nothing known", lambda vm: vm.log("ints"), ConfigError, "no category 'ints'; there are: int"),
    with_vm("a log without a place", lambda vm: vm.log(to="/nowhere/x"), ConfigError, "/nowhere/x cannot be written"),
    with_vm("a log to a number", lambda vm: vm.log("io", to=5), ConfigError, "log(to=5): give a path, or a function"),
    with_vm("an access of a kind", lambda vm: hv.explain(vm.vcpu, 0, "x"), ConfigError, "choose 'read', 'write' or"),
    with_vm("a step back", lambda vm: vm.vcpu.step(-1), ConfigError, "step(-1): give a number of instructions."),
    with_vm("memory below zero", lambda vm: vm.memory.read(-1, 4), GuestFault, "is not a range of guest-physical"),
    # assembling
    Case("nonsense", lambda _: hv.run_asm("nonsense eax"), HypervisorError, "<asm>:1: nonsense eax"),
    Case("no such mode", lambda _: hv.run_asm("hlt", mode=8), HypervisorError, "8 is not a mode"),
    Case("no such register", lambda _: hv.run_asm("hlt", regs={"foo": 1}), AttributeError, "has no register 'foo'"),
)  # fmt: skip
