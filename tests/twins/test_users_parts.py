"""What users put into a machine is part of its state, or is refused by name."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.state import number, record
from hypervisor.vm.machine_state import MachineState

AT = 0x10000
COUNTS = "again: in al, 0x80; out 0x81, al; out 0x82, al; jmp again"


@record
class SumState:
    total: int = number(0, 1 << 62)


class Sum:
    """Adds up what is written to port 81h, as a plugin that remembers."""

    def __init__(self) -> None:
        self.total = 0

    def attach(self, vm: hv.VM) -> None:
        vm.traps.port_out(0x81)(self.add)

    def add(self, vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        self.total += exit.value + 1
        return hv.HANDLED

    def state(self) -> SumState:
        return SumState(self.total)

    def restore(self, state: SumState) -> None:
        self.total = state.total


class Quiet:
    """A plugin that says that it remembers nothing."""

    stateless = True

    def attach(self, vm: hv.VM) -> None:
        """Nothing to do."""


class Silent:
    """A plugin that says nothing."""

    def attach(self, vm: hv.VM) -> None:
        """Nothing to do."""


@dataclass
class OwnState:
    count: int = 0


class Own:
    """A user's device, with a plain dataclass for its state."""

    def __init__(self, name: str = "own") -> None:
        self.name = name
        self._s = OwnState()

    def read(self, offset: int, size: int) -> int:
        self._s.count += 1
        return self._s.count & 0xFF

    def write(self, offset: int, size: int, value: int) -> None:
        """Nothing to do."""

    def reset(self) -> None:
        self._s = OwnState()

    def state(self) -> OwnState:
        return replace(self._s)

    def restore(self, state: OwnState) -> None:
        self._s = replace(state)


def program(source: str = COUNTS, **options: Any) -> hv.VM:
    code = assemble(source, origin=AT, mode=32).code
    return hv.boot(code, memory="1M", format="flat", mode=32, at=AT, **options)


def machine(*plugins: object) -> hv.VM:
    vm = program(plugins=plugins)
    vm.attach(Own(), ports=range(0x80, 0x81), replace=True)

    @hv.compiled(words=2)
    def count(state, regs, port, size, value):  # type: ignore[no-untyped-def]
        state[0] += 1
        state[1] ^= value
        return 0

    vm.traps.port_out(0x82, name="count")(count)
    return vm


def test_plugins_devices_and_compiled_handlers_go_on() -> None:
    with machine(Sum(), Quiet()) as one, machine(Sum(), Quiet()) as other:
        one.run(virtual_timeout=0.001)
        state = one.state()
        other.restore(state)
        for vm in (one, other):
            vm.run(virtual_timeout=0.001)
        assert one.state() == other.state()
        assert one.state().parts["plugin 0 Sum"].total > state.parts["plugin 0 Sum"].total > 0
        assert one.state().parts["handlers"].handlers[0].words[0] > 100
        assert one.state().parts["device own"].count > 100
        with pytest.raises(hv.DeviceError, match="device own: its state is a OwnState, which cannot be written"):
            state.to_bytes()


def test_a_plugin_that_says_nothing_is_refused_by_name() -> None:
    with machine(Silent()) as vm, pytest.raises(hv.PluginError, match="Plugin Silent does not say what it remembers"):
        vm.state()


def test_two_devices_of_one_name_are_refused() -> None:
    with machine() as vm:
        vm.attach(Own(), ports=range(0x90, 0x91))
        with pytest.raises(hv.ConfigError, match="two devices of the machine are called own"):
            vm.state()


def test_other_compiled_handlers_are_refused() -> None:
    with machine() as vm, program() as other:
        other.attach(Own(), ports=range(0x80, 0x81), replace=True)
        with pytest.raises(hv.ConfigError, match="compiled handlers count, and this machine none"):
            other.restore(vm.state())


def test_a_running_machine_has_no_state_to_give() -> None:
    with machine() as vm:
        refused: list[str] = []

        def ask(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            for call in (vm.state, lambda: vm.restore(MachineState({}))):
                with pytest.raises(hv.ConfigError, match="is running already"):
                    call()
                refused.append("")
            return hv.stop("asked")

        vm.traps.port_out(0x81)(ask)
        assert vm.run(timeout=60).message == "asked"
        assert len(refused) == 2


def test_the_wall_clock_goes_on_from_where_it_was() -> None:
    waits = "again: hlt; jmp again"
    with program(waits, clock="wall") as one, program(waits, clock="wall") as other:
        one.run(timeout=0.2)
        state = one.state()
        saved = state.parts["machine"].now
        time.sleep(0.3)
        other.restore(state)
        assert saved <= other.clock.now_ns < one.clock.now_ns
    with program(waits) as virtual, pytest.raises(hv.ConfigError, match="wall clock"):
        virtual.restore(state)
