"""The top of the house: booting with the crash report of `hypervisor.debug`, and unit tests of handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from hypervisor.errors import ConfigError
from hypervisor.machine.boot import Host, boot
from hypervisor.outcome.crash_record import Crash
from hypervisor.outcome.result import Fault, RunResult
from hypervisor.run.machine import Machine
from hypervisor.run.pausing import DebugServer
from hypervisor.traps.callables import only_begins
from hypervisor.traps.history import Event
from hypervisor.traps.plugins.plugin_set import PluginSet
from hypervisor.vcpu.processor import Processor
from hypervisor.vm.config import MachineConfig
from hypervisor.vm.vcpu import Inspector, Vcpu
from hypervisor.vm.vm import VM


def _report(vm: Machine, message: str, chain: Sequence[Fault], events: Sequence[Event]) -> Crash:
    from hypervisor.debug.crash import report

    with vm.placed():  # so that each look at memory need not ask for a place
        return report(vm, message, chain, events, vm.current.number)


def _hint(vm: Machine) -> str:
    from hypervisor.debug.mistakes.of_waiting import hint

    return hint(vm)


def _instruction_at(vcpu: Any, address: int) -> bytes:
    from hypervisor.debug import disasm

    return disasm.at(vcpu, address, 1)[0].data


def _gdb(vm: VM, port: int, wait: bool) -> DebugServer:
    from hypervisor.debug.gdb import GdbServer

    return GdbServer(vm, port, wait)


def _inspector() -> Inspector:
    from hypervisor.debug import inspector

    return inspector


VM.reporter = staticmethod(_report)
VM.debugger_for = staticmethod(_gdb)
VM.adviser = staticmethod(_hint)
Vcpu.inspector = staticmethod(_inspector)
Processor.read_instruction = staticmethod(_instruction_at)

_BARE = MachineConfig(memory="1M", name="run_asm")
CODE, STACK, DATA = 0x10000, 0x90000, 0x80000
"""Where `run_asm` puts code, where its stack begins, and a page that a test may use."""


@cache
def _bench() -> Host:
    """The host that `run_asm` runs on: kept, because a handler's unit test should take milliseconds."""
    return Host("16M", 1)


def run_asm(
    code: str | bytes,
    mode: int = 64,
    regs: Mapping[str, int] | None = None,
    setup: Callable[[VM], object] | None = None,
    timeout: float = 10.0,
    virtual_timeout: float = 0.1,
    plugins: Iterable[object] = (),
) -> RunResult:
    """Run a few instructions on a bare machine and return how that ended, with the registers as attributes.

    ``code`` is assembled for ``mode`` (16, 32 or 64 bits, flat segments, interrupts off; 64-bit code has the first 4
    GiB mapped one to one); bytes are machine code already. ``regs`` are put in first, ``plugins`` are attached as by
    `hypervisor.boot`, and ``setup(vm)`` registers handlers. End the code with ``hlt``: what runs beyond it is INT3, an
    exception. The VM has 1 MiB of memory and no devices. Raises `ConfigError` for code that does not fit, and
    `hypervisor.assembler.AssemblyError` for a source that is none.
    """
    from hypervisor.assembler import assemble
    from hypervisor.machine.bare import prepare

    if made := only_begins(setup):
        raise ConfigError(f"setup={setup!r}: calling it only makes {made}.")
    image = code if isinstance(code, bytes) else assemble(code, origin=CODE, mode=mode).code
    if not 0 < len(image) <= STACK - CODE:
        raise ConfigError(
            f"run_asm: the code has {len(image)} bytes; from 1 to {STACK - CODE} fit on the bare machine."
        )
    with VM(_bench(), _BARE) as vm:
        prepare(vm, image, mode, CODE, STACK)
        for name, value in (regs or {}).items():
            vm.vcpu.set(name, value)
        vm.plugins = PluginSet(plugins)
        vm.plugins.attach(vm)
        if setup is not None:
            setup(vm)
        return vm.run(timeout=timeout, virtual_timeout=virtual_timeout)


__all__ = ["Host", "boot", "run_asm"]
