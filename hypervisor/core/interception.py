"""Telling the engine what to trap: the sealed handlers become intercept bits, page bits and hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.arch.exits import INTERCEPT_BIT
from hypervisor.arch.exits import ExitKind as K

if TYPE_CHECKING:
    from hypervisor.core.traps import Table
    from hypervisor.core.vm import VM
    from hypervisor.engine.pcpu import PCpu

_BUILTIN_NEEDED = (K.HYPERCALL, K.RDRAND, K.RDSEED, K.MONITOR, K.MWAIT, K.SVM)
"""Kinds that the engine reports only if somebody listens, built-in handlers included."""


def apply(vm: VM, pcpu: PCpu) -> None:
    """Bring a VM's tables, and the pCPU that holds it, up to date with its handlers."""
    tables = vm.tables
    if tables.revision == vm.traps.revision and tables.bound_to is pcpu:
        return
    sealed = vm.traps.seal()
    listen = 0
    intercepts = 0
    for kind, table in sealed.items():
        if table.heard or (kind in _BUILTIN_NEEDED and table.builtin):
            listen |= 1 << kind
            bit = INTERCEPT_BIT.get(kind)
            if bit is not None and table.heard:
                intercepts |= 1 << bit
    tables.listen = listen
    tables.intercepts = intercepts
    tables.listen_exceptions = _exceptions(sealed.get(K.EXCEPTION))
    tables.cr_read = _numbers(sealed.get(K.CR_READ)) | (1 if _heard(sealed, K.SMSW) else 0)
    tables.cr_write = _numbers(sealed.get(K.CR_WRITE)) | (1 if _heard(sealed, K.CLTS) or _heard(sealed, K.LMSW) else 0)
    tables.execute = vm.traps.execute_addresses()
    _watch_pages(vm)
    tables.revision = vm.traps.revision
    tables.bound_to = pcpu
    pcpu.bind(tables)


def _heard(sealed: dict[K, Table], kind: K) -> bool:
    table = sealed.get(kind)
    return table is not None and table.heard


def _exceptions(table: Table | None) -> int:
    mask = 0
    for handler in table.listeners if table else ():
        key = dict(handler.key).get("vector", range(32))
        for vector in key:
            mask |= 1 << vector
    return mask


def _numbers(table: Table | None) -> int:
    mask = 0
    for handler in table.listeners if table else ():
        for number in dict(handler.key).get("number", (0, 2, 3, 4, 8)):
            mask |= 1 << number
    return mask


def _watch_pages(vm: VM) -> None:
    """Mark the pages that memory traps watch."""
    tables = vm.tables
    wanted: dict[int, set[str]] = {}
    virtual = []
    for where, access, space in vm.traps.memory_watches():
        if space == "virtual":
            virtual.append((where, access))
            continue
        for page in range(where.start >> 12, (where.stop - 1 >> 12) + 1):
            wanted.setdefault(page, set()).update(access)
    tables.watch_virtual(virtual)
    for page in tables.watched - wanted.keys():
        tables.trap_page(page, read=False, write=False, execute=False)
    for page, letters in wanted.items():
        if page < tables.pages:
            tables.trap_page(page, read="r" in letters, write="w" in letters, execute="x" in letters)
    tables.watched = set(wanted)
