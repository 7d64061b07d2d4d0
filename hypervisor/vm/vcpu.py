"""A virtual CPU of a VM, as handlers see it: with its VM, and what can be said of where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol

from hypervisor.outcome.crash_record import StackFrame
from hypervisor.vcpu.code_line import Line
from hypervisor.vcpu.mapped_ranges import PageTables
from hypervisor.vcpu.processor import Processor, Surroundings

if TYPE_CHECKING:
    from hypervisor.engine.vcpu_state import VcpuState
    from hypervisor.vm.vm import VM


class Inspector(Protocol):
    """What tells of a vCPU in words (`hypervisor.debug.inspector`)."""

    def where(self, vcpu: Vcpu) -> StackFrame:
        """See `Vcpu.where`."""
        ...

    def backtrace(self, vcpu: Vcpu) -> list[StackFrame]:
        """See `Vcpu.backtrace`."""
        ...

    def disassemble(self, vcpu: Vcpu, count: int, address: int | str | None) -> list[Line]:
        """See `Vcpu.disassemble`."""
        ...

    def page_tables(self, vcpu: Vcpu) -> PageTables:
        """See `Vcpu.page_tables`."""
        ...

    def mode(self, vcpu: Vcpu) -> str:
        """The processor's mode in words."""
        ...

    def registers_html(self, vcpu: Vcpu) -> str:
        """The registers as a table."""
        ...


class Vcpu(Processor):
    """One virtual CPU of a VM, as handlers see it.

    Registers are attributes by their usual names (``rax``, ``eax``, ``al``, ``rip``, ``rflags``, ``cr0``, ``efer``,
    ``dr7``, ...); segment registers have their hidden parts (``vcpu.cs.base``). Writing asks for the width alone: what
    an instruction would refuse is stored. Raises `ConfigError` for a value that is too wide, and `TrapError` where
    registers cannot be written now: in an observer, in the middle of an instruction, from a thread that does not run
    the VM while another does.
    """

    __slots__ = ("vm",)

    inspector: ClassVar[Callable[[], Inspector]]
    """Gives who tells of a vCPU in words, who lives above."""

    def __init__(self, vm: VM, number: int, state: VcpuState, around: Surroundings) -> None:
        super().__init__(number, state, around)
        self.vm = vm

    def step(self, count: int = 1) -> int:
        """Run ``count`` instructions outside `VM.run`, with their traps; returns how many ran before something ended
        it.

        The delivery of a fault counts as one, and so does each element of a repeated string instruction. Timers fire
        between instructions, but no interrupt is taken. A vCPU that has executed HLT, or a VM that has ended, runs
        none; ``vm.result`` then says how it ended.
        """
        return self.vm.step(count, self)

    @property
    def where(self) -> StackFrame:
        """Where its next instruction is: the linear address, with the symbol and the source line where they are
        known. ``str()`` of it is ``0x100080 (main+0x4, kernel.c:12)``.
        """
        return type(self).inspector().where(self)

    def backtrace(self) -> list[StackFrame]:
        """Where it is and how it came there, innermost first: by the symbol file's call frames, by frame pointers,
        and across interrupts; what only looks like a return address is marked as ``guessed``.
        """
        return type(self).inspector().backtrace(self)

    def disassemble(self, count: int = 8, address: int | str | None = None) -> list[Line]:
        """``count`` instructions from a linear address or symbol on, by default from the next one.

        Fewer where memory ends. Raises `GuestFault` where not even the first byte can be read.
        """
        return type(self).inspector().disassemble(self, count, address)

    def page_tables(self) -> PageTables:
        """All that its page tables map, in ranges of linear addresses with their rights; `hypervisor.explain` says why
        one address is or is not reachable. A notebook shows it as a table.
        """
        return type(self).inspector().page_tables(self)

    def __repr__(self) -> str:
        mode = type(self).inspector().mode(self)
        return f"<vCPU {self.number} of {self.vm.name}: {self.activity}, {mode}, at {self.where}>"

    def _repr_html_(self) -> str:
        return type(self).inspector().registers_html(self)


__all__ = ["Inspector", "Vcpu"]
