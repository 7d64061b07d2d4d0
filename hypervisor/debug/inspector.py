"""What can be said of a vCPU in words: `hypervisor.vm.vcpu.Inspector`."""

from __future__ import annotations

from typing import Any

from hypervisor.arch import flags, segments
from hypervisor.debug import disasm
from hypervisor.debug import page_tables as tables
from hypervisor.debug.interrupted import interrupted
from hypervisor.debug.register_text import mode_name
from hypervisor.debug.stack import named, trace
from hypervisor.engine.state import GPR
from hypervisor.errors import ConfigError
from hypervisor.markup import table
from hypervisor.outcome.crash_record import StackFrame
from hypervisor.vcpu.code_line import Line
from hypervisor.vcpu.mapped_ranges import PageTables

MOST_LINES = 10_000
"""Instructions that are disassembled at once."""


def where(vcpu: Any) -> StackFrame:
    """The place of the next instruction."""
    rip = disasm.linear_rip(vcpu)
    return named(vcpu.vm.symbols, rip, rip)


def backtrace(vcpu: Any) -> list[StackFrame]:
    """The stack trace, innermost frame first."""
    delivered = [event for event in vcpu.vm.events() if event.vcpu == vcpu.number and event.vector is not None]
    return trace(vcpu, vcpu.vm.symbols, interrupted(vcpu, delivered))


def disassemble(vcpu: Any, count: int, address: int | str | None) -> list[Line]:
    """Instructions from a linear address or symbol on. Raises `ConfigError` for another count, or no such symbol."""
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= MOST_LINES:
        raise ConfigError(f"disassemble({count!r}): a number of instructions from 1 to {MOST_LINES} is needed.")
    start = None if address is None else vcpu.vm.symbols.address(address)
    return disasm.at(vcpu, start, count)


def page_tables(vcpu: Any) -> PageTables:
    """All that the vCPU's page tables map."""
    return tables.page_tables(vcpu)


def mode(vcpu: Any) -> str:
    """The processor's mode in words."""
    return mode_name(vcpu)


def registers_html(vcpu: Any) -> str:
    """General, segment and control registers as a table."""
    rows: list[tuple[str, str, str]] = [(name, f"{vcpu.get(name):#x}", "") for name in GPR]
    rows.append(("rip", f"{vcpu.rip:#x}", str(where(vcpu))))
    rows.append(("rflags", f"{vcpu.rflags:#x}", flags.names(vcpu.rflags, flags.RFLAGS_NAMES)))
    for name in ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr"):
        segment = getattr(vcpu, name)
        dpl = segment.attributes >> segments.DPL_SHIFT & 3
        rows.append((name, f"{segment.selector:#x}", f"base {segment.base:#x} limit {segment.limit:#x} DPL {dpl}"))
    for name, names in (("cr0", flags.CR0_NAMES), ("cr4", flags.CR4_NAMES), ("efer", flags.EFER_NAMES)):
        rows.append((name, f"{vcpu.get(name):#x}", flags.names(vcpu.get(name), names)))
    rows += [(name, f"{vcpu.get(name):#x}", "") for name in ("cr2", "cr3", "cr8")]
    title = f"vCPU {vcpu.number} of {vcpu.vm.name}: {mode_name(vcpu)}"
    return table(title, ("register", "value", "meaning"), rows)


__all__ = ["backtrace", "disassemble", "mode", "page_tables", "registers_html", "where"]
