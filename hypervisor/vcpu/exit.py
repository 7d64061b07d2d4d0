"""The exit record: one small object per vCPU that each handler of an exit sees, filled anew for every exit."""

from __future__ import annotations

from typing import Any, Literal

from hypervisor.arch.exits import ExitKind
from hypervisor.errors import TrapError

OUTPUTS: dict[ExitKind, tuple[str, ...]] = {
    ExitKind.CPUID: ("eax", "ebx", "ecx", "edx"),
    ExitKind.RDMSR: ("value",),
    ExitKind.PORT_IN: ("value",),
    ExitKind.MMIO_READ: ("value",),
    ExitKind.CR_READ: ("value",),
    ExitKind.DR_READ: ("value",),
    ExitKind.SMSW: ("value",),
    ExitKind.SLDT: ("value",),
    ExitKind.STR: ("value",),
    ExitKind.RDTSC: ("value",),
    ExitKind.RDTSCP: ("value",),
    ExitKind.RDPMC: ("value",),
    ExitKind.RDRAND: ("value",),
    ExitKind.RDSEED: ("value",),
}
"""Fields that are the result of an exit. They are None until a handler writes them; what stays None gets the built-in
answer.
"""

RESULTS = tuple(dict.fromkeys(field for fields in OUTPUTS.values() for field in fields))
"""Fields that are results of some kind."""

INPUT_BITS = {ExitKind.WRMSR: 64, ExitKind.CR_WRITE: 64, ExitKind.DR_WRITE: 64, ExitKind.LMSW: 16}
"""Width of ``value`` for kinds whose handlers may change it before it is stored."""

STORED = frozenset((ExitKind.CR_WRITE, ExitKind.DR_WRITE, ExitKind.LMSW))
"""Kinds whose ``value`` is checked and stored as hardware does, whoever chose it."""


Direction = Literal["read", "write", "fetch"]
"""What the guest does: IN, RDMSR and loads read."""

_DIRECTIONS: dict[ExitKind, Direction] = {
    ExitKind.PORT_IN: "read", ExitKind.PORT_OUT: "write", ExitKind.MMIO_READ: "read", ExitKind.MMIO_WRITE: "write",
    ExitKind.RDMSR: "read", ExitKind.WRMSR: "write", ExitKind.CR_READ: "read", ExitKind.CR_WRITE: "write",
    ExitKind.DR_READ: "read", ExitKind.DR_WRITE: "write",
}  # fmt: skip
_LETTERS: dict[str, Direction] = {"r": "read", "w": "write", "x": "fetch"}

_FIELDS = (
    "access", "address", "eax", "ebx", "ecx", "edx", "error_code", "gpa", "gva", "leaf", "msr", "number", "port",
    "size", "subleaf", "value", "vector", "write",
)  # fmt: skip


UNWRITTEN: Any = None
"""What a field has that the kind does not have, or that nobody has written. Fields are declared as what they are
otherwise, so that handlers need not ask.
"""

_COUNTED = frozenset(("number", "size", "vector"))
"""Fields that are shown as decimals."""


class Exit:
    """Why the guest left, and what it wants.

    Common fields: ``kind``, ``rip`` (of the instruction), ``length`` and ``instruction`` (its bytes). The others depend
    on the kind, see docs/traps.md; a field that the kind does not have is None. A vCPU has one record for each kind,
    which is reused: copy what you want to keep.
    """

    __slots__ = (*_FIELDS, "_vcpu", "kind", "known_length", "rip")

    access: str
    address: int
    eax: int
    ebx: int
    ecx: int
    edx: int
    error_code: int
    gpa: int
    gva: int | None
    leaf: int
    msr: int
    number: int
    port: int
    size: int
    subleaf: int
    value: int
    vector: int
    write: bool

    def __init__(self, vcpu: Any, kind: ExitKind = ExitKind.NONE) -> None:
        self._vcpu = vcpu
        self.begin(kind, 0, 0)

    def begin(self, kind: ExitKind, rip: int, length: int) -> Exit:
        """Start a new exit: every other field is None. ``length`` 0 means that it is not known yet."""
        self.kind = kind
        self.rip = rip
        self.known_length = length
        nothing = UNWRITTEN
        self.leaf = self.subleaf = self.eax = self.ebx = self.ecx = self.edx = nothing
        self.msr = self.number = self.port = self.vector = self.error_code = nothing
        self.value = self.size = self.write = self.access = self.address = self.gpa = self.gva = nothing
        return self

    @property
    def length(self) -> int:
        """Length of the instruction in bytes, 0 where it cannot be read."""
        if not self.known_length:
            self.known_length = len(self._vcpu.instruction_at(self.rip))
        return self.known_length

    @property
    def instruction(self) -> bytes:
        """The instruction's bytes, empty where they cannot be read."""
        return bytes(self._vcpu.instruction_at(self.rip, self.known_length))

    @property
    def direction(self) -> Direction:
        """Of an access to a port, a register or memory: ``"read"`` or ``"write"``; of watched memory also ``"fetch"``.
        Raises AttributeError for other kinds.
        """
        found = _LETTERS.get(self.access) if self.kind is ExitKind.MEMORY else _DIRECTIONS.get(self.kind)
        if found is None:
            raise AttributeError(f"an exit of kind {self.kind.name.lower()} has no direction: it is no access.")
        return found

    def save(self) -> tuple[Any, ...]:
        """Every field's value, for `restore`."""
        return tuple([getattr(self, name) for name in _FIELDS])

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Put every field back."""
        for name, value in zip(_FIELDS, saved, strict=True):
            setattr(self, name, value)

    def fields(self) -> dict[str, Any]:
        """The fields that this exit has, by name."""
        values = {"kind": self.kind, "rip": self.rip} | {name: getattr(self, name) for name in _FIELDS}
        return {name: value for name, value in values.items() if value is not None}

    def __repr__(self) -> str:
        shown = [
            f"{name}={value:#x}" if type(value) is int and name not in _COUNTED else f"{name}={value}"
            for name, value in self.fields().items()
            if name not in ("kind", "rip", "write")
        ]
        return " ".join([f"<exit {self.kind.name.lower()} at {self.rip:#x}{':' if shown else ''}", *shown]) + ">"


def refuse_foreign_results(exit: Exit) -> None:
    """Raise `TrapError` where a handler has written a result that exits of this kind do not have."""
    own = OUTPUTS[exit.kind]
    for field in RESULTS:
        if field not in own and getattr(exit, field) is not None:
            setattr(exit, field, None)  # the record is used again
            raise TrapError(
                f"exit.{field} was written, and {exit.kind.name.lower()} has no such result; it has "
                f"{', '.join(f'exit.{name}' for name in own)}."
            )
