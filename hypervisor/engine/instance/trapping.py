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

MOST_HOOKS = 64
"""Linear addresses that keep a hook when nobody traps them any more, with those that are trapped."""
_NOWHERE = 1 << 63  # no guest has an instruction at this linear address


class Trapping:
    """Of one instance. Only for the thread that drives it."""

    def __init__(self, instance: UnicornInstance, memory: EngineMemory) -> None:
        self._instance = instance
        self._memory = memory
        self._words = instance.words
        self._executes: frozenset[int] = frozenset()
        self._table = _words(self._executes)
        self._hooks: dict[int, int] = {}
        """By linear address, in the order of their last use."""
        self._spare: list[int] = []

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
        """Leave the guest before the instruction at each of these linear addresses.

        Unicorn looks at its hooks while it translates an instruction. So an address keeps its hook when nobody traps it
        any more, which costs who comes there a call (`kernels.vmexit.run_loop.on_code`), and nothing is translated anew
        when the VM comes back. Blocks with an address that had no hook are forgotten.
        """
        if addresses == self._executes:
            return
        self._executes, self._table = addresses, _words(addresses)
        self._words[b.EXECUTES >> 3], self._words[b.EXECUTES_AT >> 3] = len(addresses), ctypes.addressof(self._table)
        for address in addresses & self._hooks.keys():
            self._hooks[address] = self._hooks.pop(address)
        new = addresses - self._hooks.keys()
        for address in list(self._hooks)[: max(len(self._hooks) + len(new) - MOST_HOOKS, 0)]:
            if address not in addresses:
                self._spare.append(self._hooks.pop(address))
                self._instance.move_hook(self._spare[-1], _NOWHERE)
        for address in sorted(new):
            if self._spare:
                self._hooks[address] = self._spare.pop()
                self._instance.move_hook(self._hooks[address], address)
            else:
                self._hooks[address] = self._instance.hook_code(address)
        if new:
            self._memory.retranslate(_words(new))

    def hooked(self, address: int) -> bool:
        """Whether the guest is left before the instruction at this linear address."""
        return address in self._executes


def _words(addresses: frozenset[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(addresses))(*map(b.signed, addresses))
