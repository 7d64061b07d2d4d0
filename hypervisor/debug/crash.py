"""The crash report: what a guest was doing when it died, as text for a terminal or a test's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hypervisor.arch import flags
from hypervisor.arch.msr import NAMES as MSR_NAMES
from hypervisor.arch.vectors import PF, VECTORS
from hypervisor.debug._guest import Symbols, Vcpu, Vm
from hypervisor.debug.disasm import around, code_bits, linear_rip
from hypervisor.debug.registers import mode_name, registers
from hypervisor.errors import GuestFault

LAST_EXITS = 12
"""How many exits a report shows."""

STACK_WORDS = 8
"""How many words of the stack a report shows."""

EXIT_FIELDS = ("leaf", "subleaf", "msr", "port", "gpa", "number", "vector", "error", "address", "size", "value")
"""Fields of exit records that are worth a place on their line, in this order, where a record has them."""


def report(vm: Vm, chain: Sequence[object] = (), exits: Sequence[object] = (), title: str = "") -> str:
    """Faults, registers, code and stack of every vCPU, and the last exits of a VM: some forty lines.

    ``chain`` holds the faults that led here, oldest first: objects with ``vector`` and, where known, ``error``,
    ``address`` and ``rip``; or plain text. ``exits`` holds exit records, oldest first, or plain text; the last
    `LAST_EXITS` are shown. What cannot be had (code on a page that is not mapped, say) is replaced by the reason: no
    state of a guest makes a report fail.
    """
    return "\n".join(_lines(vm, chain, exits, title))


def fault_line(fault: object, symbols: Symbols) -> str:
    """One fault: ``#PF page fault, error 0x2 [W], address 0xb8, at 0x7c10 (main+0x4)``."""
    if isinstance(fault, str):
        return fault
    vector = getattr(fault, "vector", None)
    parts = [_vector_name(vector)]
    error = getattr(fault, "error", None)
    if error is not None:
        bits = f" [{flags.names(error, flags.PAGE_FAULT_NAMES)}]" if vector == PF else ""
        parts.append(f"error {error:#x}{bits}")
    address, rip = getattr(fault, "address", None), getattr(fault, "rip", None)
    if address is not None and vector == PF:
        parts.append(f"address {_place(address, symbols)}")
    if rip is not None:
        parts.append(f"at {_place(rip, symbols)}")
    return ", ".join(parts)


def exit_line(record: object, symbols: Symbols) -> str:
    """One exit: ``port_out port=0x604 size=2 value=0x2000 at 0x7c2e (stop)``."""
    if isinstance(record, str):
        return record
    kind = getattr(record, "kind", None)
    words = [str(getattr(kind, "name", kind)).lower()]
    for field in EXIT_FIELDS:
        value = getattr(record, field, None)
        if isinstance(value, int):
            known = MSR_NAMES.get(value) if field == "msr" else None
            words.append(f"{field}={value}" if field == "size" else f"{field}={known or hex(value)}")
    rip = getattr(record, "rip", None)
    return " ".join(words) + (f" at {_place(rip, symbols)}" if rip is not None else "")


def _lines(vm: Vm, chain: Sequence[object], exits: Sequence[object], title: str) -> Iterator[str]:
    if title:
        yield title
    if chain:
        yield "faults, oldest first:"
        yield from (f"  {fault_line(fault, vm.symbols)}" for fault in chain)
    for index, vcpu in enumerate(vm.vcpus):
        yield f"vcpu {index}, {mode_name(vcpu)}:"
        yield from _indented(registers(vcpu))
        yield f"code at {_place(linear_rip(vcpu), vm.symbols)}:"
        yield from _indented(_or_reason(_code, vcpu))
        yield "stack:"
        yield from _indented(_or_reason(_stack, vcpu))
    if exits:
        shown = exits[-LAST_EXITS:]
        yield f"last {len(shown)} exits, newest last:" if len(shown) > 1 else "last exit:"
        yield from (f"  {exit_line(record, vm.symbols)}" for record in shown)


def _code(vcpu: Vcpu) -> str:
    rip = linear_rip(vcpu)
    return "\n".join(f"{'->' if line.address == rip else '  '} {line}" for line in around(vcpu))


def _stack(vcpu: Vcpu) -> str:
    """The first words above the stack pointer, as wide as the code's registers, four to a line."""
    bits = code_bits(vcpu)
    size = bits // 8
    mask = (1 << bits) - 1
    pointer = vcpu.rsp & mask if bits == 64 else vcpu.ss.base + (vcpu.rsp & mask)
    data = vcpu.read(pointer, STACK_WORDS * size)
    words = [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]
    return "\n".join(
        f"{pointer + start * size:#x}: " + " ".join(f"{word:0{2 * size}x}" for word in words[start : start + 4])
        for start in range(0, len(words), 4)
    )


def _or_reason(part: Callable[[Vcpu], str], vcpu: Vcpu) -> str:
    try:
        return part(vcpu)
    except GuestFault as error:
        return f"cannot be read: {error}"


def _vector_name(vector: int | None) -> str:
    known = VECTORS.get(vector) if vector is not None else None
    if known is not None:
        return f"{known.mnemonic} {known.name}".strip()
    return f"vector {vector}"


def _place(address: int, symbols: Symbols) -> str:
    found = symbols.lookup(address)
    if found is None:
        return f"{address:#x}"
    return f"{address:#x} ({found[0]}+{found[1]:#x})" if found[1] else f"{address:#x} ({found[0]})"


def _indented(text: str) -> Iterator[str]:
    return (f"  {line}" for line in text.splitlines())
