"""Telling the engine what to trap: the sealed handlers become intercept bits, page bits and hooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hypervisor.arch.exits import INTERCEPT_BIT
from hypervisor.arch.exits import ExitKind as K
from hypervisor.engine.tables import MAX_WATCHES
from hypervisor.errors import TrapError
from hypervisor.memory.map_words import MAP_TRAP_EXECUTE, MAP_TRAP_READ, MAP_TRAP_WRITE
from hypervisor.vcpu.breakpoints import armed

if TYPE_CHECKING:
    from hypervisor.engine.pcpu import PCpu
    from hypervisor.run.machine import Machine
    from hypervisor.traps.dispatch import Table

_TRAPS = {"r": MAP_TRAP_READ, "w": MAP_TRAP_WRITE, "x": MAP_TRAP_EXECUTE}
_CONTROL = (0, 2, 3, 4, 8)
_ALWAYS_REPORTED = (K.HYPERCALL, K.RDRAND, K.RDSEED, K.RDPMC, K.MONITOR, K.MWAIT, K.SVM)
"""Kinds that are reported for their built-in handlers too, if they have any. (The engine always reports CR, DR, MSR
accesses and HLT.)
"""


def apply(vm: Machine, pcpu: PCpu) -> None:
    """Bring a VM's tables, and the pCPU that holds it, up to date with its handlers and the guest's breakpoints."""
    tables = vm.tables
    breakpoints = armed(vm.current)
    if tables.revision == vm.traps.revision and tables.bound_to is pcpu and breakpoints == vm.breakpoints:
        return
    sealed = vm.traps.seal().tables
    listen = 0
    intercepts = 0
    for kind, table in sealed.items():
        if table.heard or (kind in _ALWAYS_REPORTED and table.builtin):
            listen |= 1 << kind
            intercepts |= _intercept(kind)
    if breakpoints.execution:
        intercepts |= _intercept(K.IRET)  # it loads RF, see `breakpoints.after_iret`
    tables.listen = listen
    tables.intercepts = intercepts
    tables.listen_exceptions = _mask(sealed.get(K.EXCEPTION), "vector", range(32))
    tables.cr_read = _mask(sealed.get(K.CR_READ), "number", _CONTROL) | int(_heard(sealed, K.SMSW))
    tables.cr_write = _mask(sealed.get(K.CR_WRITE), "number", _CONTROL)
    tables.execute = vm.traps.execute_addresses() | breakpoints.execution.keys()
    for vcpu in vm.vcpus:
        vcpu.breakpoints = breakpoints
    _watch_pages(vm)
    tables.serve_inside([h.compiled.inside(h.kinds[0], h.only) for h in vm.traps.compiled() if h.compiled])
    tables.revision = vm.traps.revision
    tables.bound_to = pcpu
    pcpu.bind(tables)


def _intercept(kind: K) -> int:
    bit = INTERCEPT_BIT.get(kind)
    return 0 if bit is None else 1 << bit


def _heard(sealed: dict[K, Table], kind: K) -> bool:
    table = sealed.get(kind)
    return table is not None and table.heard


def _mask(table: Table | None, field: str, everything: Iterable[int]) -> int:
    """A bit for each value of the key that somebody listens to."""
    mask = 0
    for handler in table.listeners if table else ():
        for values in dict(handler.key).get(field, (everything,)):
            for value in values:
                mask |= 1 << value
    return mask


def _watch_pages(vm: Machine) -> None:
    """Mark the pages that memory traps and data breakpoints watch."""
    tables = vm.tables
    watches = vm.traps.watches()
    virtual = [(w.where, w.access) for w in watches if w.space == "virtual"]
    virtual += vm.breakpoints.watched()
    if len(virtual) > MAX_WATCHES:
        raise TrapError(f"{len(virtual)} ranges of virtual addresses are watched; at most {MAX_WATCHES} can be.")
    tables.watch_virtual(virtual)
    wanted: dict[int, int] = {}
    for watch in watches:
        if watch.space == "physical":
            for page in range(watch.where.start >> 12, min((watch.where.stop - 1 >> 12) + 1, vm.memory.pages.pages)):
                wanted[page] = wanted.get(page, 0) | sum(_TRAPS[letter] for letter in set(watch.access))
    vm.memory.trap(wanted)
