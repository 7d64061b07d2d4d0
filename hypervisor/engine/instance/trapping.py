"""What an instance's guest is left for: the VMCB's intercepts, and linear addresses of instructions."""

from __future__ import annotations

import ctypes

from hypervisor.arch.exits import INTERCEPT_BIT, ExitKind
from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.engine.instance.engine_memory import EngineMemory
from hypervisor.engine.instance.guest_mode import ALWAYS_INTERCEPTED, CR_READS, CR_WRITES
from hypervisor.engine.instance.unicorn_instance import UnicornInstance
from hypervisor.engine.tables import GuestTables


class Trapping:
    """Of one instance. Only for the thread that drives it."""

    def __init__(self, instance: UnicornInstance, memory: EngineMemory) -> None:
        self._instance = instance
        self._memory = memory
        self._words = instance.words
        self._hooks: dict[int, int] = {}
        """By linear address."""

    def bind(self, tables: GuestTables) -> None:
        """Trap what a VM's tables say, and nothing else."""
        self._set_intercepts(tables.intercepts, tables.cr_read, tables.cr_write)
        self._set_execution(tables.execute)

    def intercept(self, bit: int, on: bool) -> None:
        """Switch one bit of the VMCB's intercept words (see `hypervisor.arch.exits.INTERCEPT_BIT`)."""
        field = ctypes.c_uint64.from_address(self._instance.env + layout.INTERCEPT)
        mask = 1 << bit
        field.value = (field.value | mask) if on else field.value & ~mask

    def _set_intercepts(self, bits: int, cr_read: int, cr_write: int) -> None:
        """Replace the intercepts that handlers can add to; what the hypervisor itself needs stays on."""
        bits |= ALWAYS_INTERCEPTED
        self._words[b.INTERCEPTS >> 3] = bits
        if self._words[b.NMI_BLOCKED >> 3]:
            bits |= 1 << INTERCEPT_BIT[ExitKind.IRET]
        env = self._instance.env
        ctypes.c_uint64.from_address(env + layout.INTERCEPT).value = bits
        ctypes.c_uint16.from_address(env + layout.INTERCEPT_CR_READ).value = cr_read | CR_READS
        ctypes.c_uint16.from_address(env + layout.INTERCEPT_CR_WRITE).value = cr_write | CR_WRITES

    def _set_execution(self, addresses: frozenset[int]) -> None:
        """Leave the guest before the instruction at each of these linear addresses."""
        changed = False
        hflags = ctypes.c_uint32.from_address(self._instance.env + layout.HFLAGS)
        guest, hflags.value = hflags.value, hflags.value & ~layout.HF_GUEST
        for address in set(self._hooks) - addresses:  # Unicorn looks its page up: not in this guest's tables
            self._instance.unhook(self._hooks.pop(address))
            changed = True
        hflags.value = guest
        for address in addresses - set(self._hooks):
            self._hooks[address] = self._instance.hook_code(address)
            changed = True
        if changed:
            self._words[b.EXECUTES >> 3] = len(self._hooks)
            self._memory.forget_code()

    def hooked(self, address: int) -> bool:
        """Whether the guest is left before the instruction at this linear address."""
        return address in self._hooks
