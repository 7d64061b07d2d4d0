"""What a rule is given to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hypervisor.arch import flags
from hypervisor.arch.vectors import title
from hypervisor.debug.delivery import Attempt, Refusal
from hypervisor.debug.instruction import Instruction, at_rip
from hypervisor.traps.history import EXCEPTION, Event


@dataclass(frozen=True)
class Case:
    """A crash to judge: the first exception of the chain (None: no chain) and everything around it; ``origin`` is where
    that came from, ``handling`` the events whose handlers were running.
    """

    vcpu: Any
    vector: int | None
    error: int
    address: int | None
    attempts: Sequence[Attempt]
    events: Sequence[Event]
    origin: int | None = None
    handling: Sequence[Event] = ()

    @cached_property
    def instruction(self) -> Instruction | None:
        """What is at RIP, read when a rule asks for it; None where it cannot be read."""
        return at_rip(self.vcpu)

    @property
    def protected(self) -> bool:
        """Protected or long mode."""
        return bool(self.vcpu.cr0 & flags.CR0_PE)

    @property
    def raised(self) -> bool:
        """Whether the first event is an exception of the instruction at RIP, and not an interrupt or an INT n."""
        return self.origin == EXCEPTION

    def symbol(self, address: int) -> str:
        """An address with its symbol, if it has one."""
        name = self.vcpu.vm.symbols.describe(address)
        return f"{address:#x} ({name})" if name else f"{address:#x}"

    def refused(self, *steps: str) -> tuple[Attempt, Refusal] | None:
        """The first attempt that failed at one of these steps."""
        for made in self.attempts:
            if made.refusal is not None and made.refusal.step in steps:
                return made, made.refusal
        return None


def vector_name(vector: int) -> str:
    """A vector as a sentence needs it: ``#PF page fault``, ``interrupt 0x21``."""
    return title(vector) or f"interrupt {vector:#x}"
