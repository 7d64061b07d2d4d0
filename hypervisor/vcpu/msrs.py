"""A vCPU's model-specific registers as a mapping, wherever each of them lives."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from hypervisor.arch import msr as m
from hypervisor.arch.msr import MSRS, Home
from hypervisor.bus import Clock
from hypervisor.vcpu.register_file import Registers

_REGISTER = {
    m.SYSENTER_CS: "sysenter_cs",
    m.SYSENTER_ESP: "sysenter_esp",
    m.SYSENTER_EIP: "sysenter_eip",
    m.EFER: "efer",
    m.STAR: "star",
    m.LSTAR: "lstar",
    m.CSTAR: "cstar",
    m.SFMASK: "fmask",
    m.KERNEL_GS_BASE: "kernel_gs_base",
    m.TSC_AUX: "tsc_aux",
    m.PAT: "pat",
}
_SEGMENT = {m.FS_BASE: "fs", m.GS_BASE: "gs"}
_POWER_ON = {number: msr.reset for number, msr in MSRS.items() if msr.home is Home.VCPU}
"""Of the registers that live here."""


class MsrBank(MutableMapping[int, int]):
    """``vcpu.msr[number]``: the values, without the checks that WRMSR makes. Raises KeyError for a register that does
    not exist.
    """

    def __init__(self, vcpu: Registers, number: int, clock: Clock) -> None:
        self._vcpu, self._number, self._clock = vcpu, number, clock
        self._values: dict[int, int] = {}

    def reset(self) -> None:
        """Power-on values of the registers that live here."""
        self._values = dict(_POWER_ON)
        if self._number:
            self._values[m.APIC_BASE] &= ~m.APIC_BASE_BSP

    def kept(self) -> dict[int, int]:
        """The registers that live here and not among the vCPU's others."""
        return dict(self._values)

    def put_back(self, values: dict[int, int]) -> None:
        """Make the registers that live here those that `kept` told."""
        self._values = dict(values)

    def __getitem__(self, number: int) -> int:
        if number in _REGISTER:
            return self._vcpu.get(_REGISTER[number])
        if number in _SEGMENT:
            return self._vcpu.registers.segment(_SEGMENT[number]).base
        if number == m.TSC:
            return (self._clock.now_ns + self._vcpu.registers.tsc_offset) & m.MASK64
        if number == m.TSC_ADJUST:
            return self._vcpu.registers.tsc_offset & m.MASK64
        if number in self._values:
            return self._values[number]
        return MSRS[number].reset

    def __setitem__(self, number: int, value: int) -> None:
        if number in _REGISTER:
            self._vcpu.set(_REGISTER[number], value)
        elif number in _SEGMENT:
            self._vcpu.registers.set_base(_SEGMENT[number], value)
        elif number == m.TSC:
            self._vcpu.registers.tsc_offset = value - self._clock.now_ns
        elif number == m.TSC_ADJUST:
            self._vcpu.registers.tsc_offset = value
        else:
            self._values[MSRS[number].number] = value & m.MASK64

    def __delitem__(self, number: int) -> None:
        raise TypeError("a register cannot be removed")

    def __iter__(self) -> Iterator[int]:
        return iter(MSRS)

    def __len__(self) -> int:
        return len(MSRS)
