"""Interprocessor interrupts: destinations, shorthands, INIT and start-up (SDM 10.6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hypervisor.arch import apic_registers as r
from hypervisor.arch.apic_registers import Mode, Shorthand
from tests.devices.local_apics import ENABLED, Cpu, hit, interrupt


@pytest.mark.parametrize("mode", [Mode.INIT, Mode.STARTUP])
def test_the_shorthand_self_starts_nobody(cpu: Cpu, mode: Mode) -> None:
    cpu.send(Shorthand.SELF << 18 | r.ASSERT | mode << 8 | 0x08)
    assert cpu.events == [] and cpu.read(r.SVR) == ENABLED


@pytest.mark.parametrize(
    "shorthand, expected",
    [(Shorthand.SELF, [1]), (Shorthand.ALL, [0, 1, 2, 3]), (Shorthand.OTHERS, [0, 2, 3]), (Shorthand.NONE, [2])],
)
def test_shorthands(cpus: list[Cpu], shorthand: Shorthand, expected: list[int]) -> None:
    cpus[1].send(shorthand << 18 | 0x50, to=2)
    assert hit(cpus) == expected


def logical(cpus: list[Cpu], dfr: int, ldrs: tuple[int, ...]) -> Callable[[int], list[int]]:
    for cpu, ldr in zip(cpus, ldrs, strict=True):
        cpu.write(r.DFR, dfr)
        cpu.write(r.LDR, ldr << 24)

    def who(destination: int) -> list[int]:
        cpus[0].send(r.LOGICAL | 0x50, to=destination)
        found = hit(cpus)
        for number in found:
            cpus[number].apic.acknowledge()
            cpus[number].write(r.EOI, 0)
        return found

    return who


def test_flat_logical_destinations(cpus: list[Cpu]) -> None:
    who = logical(cpus, 0xFFFFFFFF, (1, 2, 4, 0x82))
    assert [who(d) for d in (1, 2, 6, 0x80, 0xFF, 0x10, 0)] == [[0], [1, 3], [1, 2, 3], [3], [0, 1, 2, 3], [], []]


def test_cluster_logical_destinations(cpus: list[Cpu]) -> None:
    who = logical(cpus, 0x0FFFFFFF, (0x01, 0x02, 0x11, 0x18))
    assert [who(d) for d in (0x01, 0x03, 0x1F, 0xF1, 0xFF, 0x21)] == [[0], [0, 1], [2, 3], [0, 2], [0, 1, 2, 3], []]


def test_physical_broadcast(cpus: list[Cpu]) -> None:
    cpus[0].send(0x50, to=0xFF)
    assert hit(cpus) == [0, 1, 2, 3]


def test_lowest_priority_goes_to_the_idlest(cpus: list[Cpu]) -> None:
    for cpu, priority in zip(cpus, (0x40, 0x20, 0x30, 0x20), strict=True):
        cpu.write(r.TPR, priority)
    cpus[0].send(Mode.LOWEST << 8 | 0x90, to=0xFF)
    assert hit(cpus) == [1]
    cpus[1].write(r.SVR, 0xFF)  # it takes none any more
    cpus[0].send(Mode.LOWEST << 8 | 0x90, to=0xFF)
    assert hit(cpus) == [3]


def test_init_and_start_up_reach_an_apic_that_is_off(cpus: list[Cpu]) -> None:
    cpus[2].write(r.SVR, 0xFF)
    cpus[0].send(Mode.INIT << 8 | r.LEVEL | r.ASSERT, to=2)
    cpus[0].send(Mode.INIT << 8 | r.LEVEL, to=2)  # the de-assertion
    cpus[0].send(Mode.STARTUP << 8 | 0x9A, to=2)
    cpus[0].send(Mode.NMI << 8, to=2)
    cpus[0].send(0x50, to=2)
    assert cpus[2].events == ["init", 0x9A, "nmi"]
    assert not cpus[2].intr.level
    assert [cpu.events for cpu in (cpus[0], cpus[1], cpus[3])] == [[], [], []]


def test_init_keeps_the_id_and_clears_the_rest(cpus: list[Cpu]) -> None:
    cpus[1].write(r.ID, 9 << 24)
    cpus[1].write(r.TPR, 0x20)
    interrupt(cpus[1], 0x50)
    cpus[0].send(Mode.INIT << 8 | r.ASSERT, to=9)
    assert (cpus[1].read(r.ID), cpus[1].read(r.TPR), cpus[1].read(r.IRR + 0x20)) == (9 << 24, 0, 0)
    assert not cpus[1].intr.level


def test_a_reserved_vector_is_refused_by_the_sender_and_by_the_receiver(cpus: list[Cpu]) -> None:
    cpus[0].send(0x0F, to=1)
    interrupt(cpus[1], 0x0F)
    for cpu, error in ((cpus[0], r.ESR_SEND_ILLEGAL), (cpus[1], r.ESR_RECEIVE_ILLEGAL)):
        cpu.write(r.ESR, 0)
        assert cpu.read(r.ESR) == error
    assert hit(cpus) == []
