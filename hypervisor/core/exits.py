"""The exit record: one small object per vCPU that each handler of an exit sees, filled anew for every exit."""

from __future__ import annotations

from typing import Any

from hypervisor.arch.exits import ExitKind

OUTPUTS: dict[ExitKind, tuple[str, ...]] = {
    ExitKind.CPUID: ("eax", "ebx", "ecx", "edx"),
    ExitKind.RDMSR: ("value",),
    ExitKind.PORT_IN: ("value",),
    ExitKind.MMIO_READ: ("value",),
    ExitKind.CR_READ: ("value",),
    ExitKind.DR_READ: ("value",),
    ExitKind.SMSW: ("value",),
    ExitKind.RDTSC: ("value",),
    ExitKind.RDTSCP: ("value",),
    ExitKind.RDPMC: ("value",),
    ExitKind.RDRAND: ("value",),
    ExitKind.RDSEED: ("value",),
}
"""Fields that are the result of an exit. They are None until a handler writes them; what stays None gets the built-in
answer.
"""

STORED = frozenset((ExitKind.CR_WRITE, ExitKind.DR_WRITE, ExitKind.LMSW))
"""Kinds whose ``value`` is checked and stored as hardware does, whoever chose it."""


class Exit:
    """Why the guest left, and what it wants.

    Common fields: ``kind``, ``rip`` (of the instruction), ``length`` and ``instruction`` (its bytes). The others depend
    on the kind, see docs/traps.md; a field that the kind does not have is None. A vCPU has one record for each kind,
    which is reused: copy what you want to keep.
    """

    __slots__ = (
        "_vcpu",
        "access",
        "address",
        "eax",
        "ebx",
        "ecx",
        "edx",
        "error",
        "gpa",
        "kind",
        "leaf",
        "length",
        "msr",
        "name",
        "number",
        "port",
        "rip",
        "size",
        "subleaf",
        "value",
        "vector",
        "write",
    )  # fmt: skip

    def __init__(self, vcpu: Any, kind: ExitKind = ExitKind.NONE) -> None:
        self._vcpu = vcpu
        self.begin(kind, 0, 0)

    def begin(self, kind: ExitKind, rip: int, length: int) -> Exit:
        """Start a new exit: every other field is None."""
        self.kind = kind
        self.rip = rip
        self.length = length
        self.leaf: Any = None
        self.subleaf: Any = None
        self.eax: Any = None
        self.ebx: Any = None
        self.ecx: Any = None
        self.edx: Any = None
        self.msr: Any = None
        self.value: Any = None
        self.port: Any = None
        self.size: Any = None
        self.write: Any = None
        self.gpa: Any = None
        self.number: Any = None
        self.vector: Any = None
        self.error: Any = None
        self.address: Any = None
        self.access: Any = None
        self.name: Any = None
        return self

    @property
    def instruction(self) -> bytes:
        """The instruction's bytes."""
        length: int = self.length or self._vcpu.instruction_length()
        return bytes(self._vcpu.read(self._vcpu.linear_rip, length))

    def fields(self) -> dict[str, Any]:
        """The fields that this exit has, by name."""
        names = [name for name in self.__slots__ if not name.startswith("_")]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{k}={v:#x}" if isinstance(v, int) and k != "kind" else f"{k}={v}" for k, v in self.fields().items()
        )
        return f"<Exit {shown}>"
