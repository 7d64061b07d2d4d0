"""Every shipped guest does under qemu-system-x86_64 what it does under us: it is a program for a PC."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

Qemu = Callable[..., tuple[str, int]]
APIC = """APIC base fee00900, local APIC 0, version 14
interrupts to oneself: 5
task priority: held back, then delivered
timer, one shot: good
timer, periodic: good
PIT through the I/O APIC: good
NMI: good
apic: good
"""
SMP = """processors in the MADT: {cpus}
all have come
shared counter: no update lost
TLB shootdown: everybody sees the new page
IPIs there and back: {others}
smp: good
"""
NO_SVM = ("-serial", "stdio", "-cpu", "qemu64,-svm")


def test_hello_says_hello_through_the_bios(qemu: Qemu) -> None:
    """With -nographic, SeaBIOS's teletype is on the serial port too (and holds back the line's end at power-off)."""
    output, status = qemu("hello", "-nographic")
    assert status == 0
    assert "Booting from Hard Disk...\r\nHell" in output


def test_hello32_prints_its_command_line(qemu: Qemu) -> None:
    output, status = qemu("hello32", "-serial", "stdio", "-append", "one two")
    assert status == 0
    assert re.fullmatch(r"Hello from 32-bit protected mode\ncommand line: \S*hello32\.bin one two\n", output)


def test_long_runs_through_its_steps(qemu: Qemu) -> None:
    assert qemu("long") == (
        "long mode: on\nbreakpoint: caught, back\ntimer: 10 ticks\nring 3: hello from user mode\n"
        "syscall: sum 500500\ndone\n",
        33,
    )


def test_balloon_finds_nobody_who_wants_memory(qemu: Qemu) -> None:
    assert qemu("balloon") == ("balloon: nobody wants memory here\n", 0)


def test_pagefault_maps_on_demand(qemu: Qemu) -> None:
    assert qemu("pagefault") == (
        "64 faults for 64 pages written\n64 faults after reading them again\n0 pages with wrong contents\n"
        "65 faults after unmapping one, which reads 0 now\npagefault: good\n",
        0,
    )


def test_preempt_loses_no_update(qemu: Qemu) -> None:
    output, status = qemu("preempt")
    assert status == 0
    assert len(re.findall(r"thread \d: \d+ slices, made progress\n", output)) == 3
    assert output.endswith("shared counter: no update lost, none doubled\npreempt: good\n")


def test_apic_comes_to_its_end(qemu: Qemu) -> None:
    assert qemu("apic") == (APIC, 0)


@pytest.mark.parametrize("cpus", [1, 4])
def test_smp_comes_to_its_end(qemu: Qemu, cpus: int) -> None:
    assert qemu("smp", "-serial", "stdio", "-smp", str(cpus)) == (SMP.format(cpus=cpus, others=cpus - 1), 0)


@pytest.mark.parametrize("cpu", ["qemu64", "max,la57=off"])
def test_trapzoo_comes_to_its_end(qemu: Qemu, cpu: str) -> None:
    output, status = qemu("trapzoo", "-serial", "stdio", "-cpu", cpu)
    assert status == 0
    lines = [line for line in output.splitlines() if " .." in line]
    assert all(re.search(r" \.\.+ (ok|#[A-Z]{2})$", line) for line in lines)
    assert output.splitlines()[-1].startswith(f"trapzoo: {len(lines)} instructions, ")


def test_hostile_is_contained(qemu: Qemu) -> None:
    output, status = qemu("hostile", *NO_SVM)
    assert status == 0
    assert "ESCAPED" not in output
    assert output.endswith(" attempts, contained\n")


def test_hostile_notices_an_escape(qemu: Qemu) -> None:
    """QEMU lets a guest with the SVM feature set EFER.SVME: as far as this guest can tell, it got out."""
    output, _ = qemu("hostile", "-serial", "stdio", "-cpu", "qemu64", until=b"ESCAPED")
    assert re.search(r"set EFER.SVME \.+ ESCAPED", output)
