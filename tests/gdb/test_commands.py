"""Packets that no gdb would send: the answer is an error, and the guest does not notice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

import hypervisor as hv
from hypervisor.debug.gdb.commands import answer
from hypervisor.debug.gdb.description import ARCHITECTURES, REGISTERS, target_xml
from hypervisor.debug.gdb.gdb_session import Session
from tests.core.bare import bare

LOOP = "again: inc rax; mov [0x80000], rax; jmp again"
LETTERS = "gGpPmMXzZ?cCsSkDHTvqQ!RdtiI_"
WORDS = (
    "vCont;", "vCont?", "vKill;", "vMustReplyEmpty", "vRun;", "vFlashErase:", "qSupported:", "QStartNoAckMode",
    "qXfer:features:read:target.xml:", "qXfer:features:read:", "qXfer:threads:read::", "qAttached", "qC",
    "qfThreadInfo", "qsThreadInfo", "qThreadExtraInfo,", "qRcmd,", "qSymbol::", "qOffsets", "QPassSignals:",
)  # fmt: skip


class Paused:
    """A debugger that runs a function when the run begins."""

    def __init__(self, function: object) -> None:
        self.function = function

    def attend(self, ended: object) -> None:
        if ended is None and self.function is not None:
            function, self.function = self.function, None
            function()  # type: ignore[operator]

    def wake(self) -> None:
        return None

    def close(self) -> None:
        return None


@pytest.fixture
def vm() -> Iterator[hv.VM]:
    with bare(LOOP) as vm:
        yield vm


def exchange(vm: hv.VM, *packets: bytes, ctrl_c: bool = False) -> list[bytes | None]:
    """The answers of a session in the middle of a run; ``ctrl_c`` says that gdb's user wants to stop."""
    answers: list[bytes | None] = []

    def talk() -> None:
        session = Session(vm, lambda: ctrl_c)
        answers.extend(answer(session, packet) for packet in packets)
        session.leave()

    vm.debugger = Paused(talk)
    result = vm.run(virtual_timeout=0.001)
    assert result.reason in (hv.Reason.VIRTUAL_TIMEOUT, hv.Reason.STOPPED, hv.Reason.CRASHED), result.message
    return answers


@pytest.mark.parametrize("bits", ARCHITECTURES)
def test_the_description_is_the_registers(vm: hv.VM, bits: int) -> None:
    target = ElementTree.fromstring(target_xml(bits))
    assert target.findtext("architecture") == ARCHITECTURES[bits]
    described = [(reg.get("name"), int(reg.get("bitsize", "0"))) for reg in target.iter("reg")]
    assert described == [(register.name, register.bits) for register in REGISTERS]
    assert len({name for name, _ in described}) == len(described)


def test_all_registers_are_one_by_one_what_they_are_together(vm: hv.VM) -> None:
    together, *single = exchange(vm, b"g", *(b"p%x" % n for n in range(len(REGISTERS))))
    assert together == b"".join(part or b"" for part in single)


def test_writing_all_registers_back_changes_nothing(vm: hv.VM) -> None:
    (before,) = exchange(vm, b"g")
    assert before is not None
    vm.vcpu.rip = vm.vcpu.rip  # still the same place
    answers = exchange(vm, b"g", b"", b"?", b"g")
    assert answers[0] == answers[3]
    first, done, second = exchange(vm, b"g", b"G" + before, b"g")
    assert done == b"OK"
    assert second == before != first


@pytest.mark.parametrize(
    ("packet", "wanted"),
    [
        (b"m0,zz", b"E01"), (b"m0", b"E01"), (b"m", b"E01"), (b"m-1,4", b"E01"), (b"m11111111111111111,1", b"E01"),
        (b"m8000000000,4", b"E0e"), (b"M80000,2:11", b"E01"), (b"M80000,1:1", b"E01"), (b"X80000,5:abc", b"E01"),
        (b"p", b"E01"), (b"pffff", b"E01"), (b"P0", b"E01"), (b"P0=12", b"E01"), (b"Pfff=00", b"E01"),
        (b"Z9,0,1", b"E16"), (b"Z0,0", b"E01"), (b"Z2,80000,0", b"E16"), (b"Z2,80000,ffffffff", b"E16"),
        (b"z0,1234,1", b"OK"), (b"z2,1234,1", b"OK"), (b"z9,0,0", b"OK"),
        (b"Hg5", b"E01"), (b"Hgzz", b"E01"), (b"H", b"E01"), (b"T9", b"E01"), (b"qThreadExtraInfo,9", b"E01"),
        (b"vCont;x", b"E01"), (b"vCont;s:99", b"E01"), (b"vCont;", b"E01"), (b"vCont;r1:1", b"E01"),
        (b"qXfer:features:read:target.xml:0", b"E01"), (b"qXfer:features:read:other.xml:0,100", b""),
        (b"qRcmd,0", b"E01"), (b"QUnknown", b""), (b"vMustReplyEmpty", b""), (b"", b""), (b"\xff\xfe", b""),
    ],
)  # fmt: skip
def test_malformed_packets(vm: hv.VM, packet: bytes, wanted: bytes) -> None:
    assert exchange(vm, packet) == [wanted]


def test_there_is_an_end_of_watchpoints(vm: hv.VM) -> None:
    answers = exchange(vm, *(b"Z2,%x,4" % (0x80000 + 8 * n) for n in range(40)))
    assert answers[:32] == [b"OK"] * 32
    assert answers[32:] == [b"E16"] * 8


def test_the_same_breakpoint_twice_is_one(vm: hv.VM) -> None:
    assert exchange(vm, b"Z0,10000,1", b"Z0,10000,1", b"Z1,10000,1", b"z0,10000,1", b"z1,10000,1", b"s") == [
        *[b"OK"] * 5,
        b"T05thread:1;",
    ]


def test_a_step_leaves_the_breakpoint_that_it_begins_at(vm: hv.VM) -> None:
    assert exchange(vm, b"Z0,10000,1", b"s", b"p10") == [b"OK", b"T05thread:1;", b"0300010000000000"]


def test_a_step_begins_where_it_is_told_and_the_first_of_two_is_made(vm: hv.VM) -> None:
    assert exchange(vm, b"S05;10003", b"p10") == [b"T05thread:1;", b"0d00010000000000"]
    assert exchange(vm, b"s10000", b"vCont;s:1;r10003,1000f:1", b"p10")[1:] == [b"T05thread:1;", b"0d00010000000000"]


def test_the_same_watchpoint_twice_is_one(vm: hv.VM) -> None:
    answers = exchange(vm, b"Z2,80000,8", b"Z2,80000,8", b"z2,80000,8", b"vCont;r10000,1000b:1")
    assert answers == [*[b"OK"] * 3, b"T05thread:1;"]  # and no word of the store


def test_a_range_step_ends_at_a_breakpoint_and_by_ctrl_c(vm: hv.VM) -> None:
    answers = exchange(vm, b"Z0,10003,1", b"vCont;r10000,10100:1", b"p10")
    assert answers == [b"OK", b"T05thread:1;", b"0300010000000000"]
    assert exchange(vm, b"vCont;r10000,10100:1", ctrl_c=True) == [b"T02thread:1;"]


@pytest.mark.parametrize("seed", range(30))
def test_random_packets_never_end_a_run(seed: int) -> None:
    rng = random.Random(seed)
    with bare(LOOP) as vm:
        packets = [packet(rng) for _ in range(100)]
        answers = exchange(vm, *packets)
        assert len(answers) == len(packets)
        assert vm.vcpu.rip < 0x10010 or any(p[:1] in b"GPMXcCsS" for p in packets)
        assert not [name for name in vm.traps.names() if name.startswith("gdb.")]


def packet(rng: random.Random) -> bytes:
    """Something between a good packet and noise."""
    start = rng.choice((rng.choice(LETTERS), rng.choice(WORDS)))
    fields = (
        f"{rng.getrandbits(rng.choice((3, 8, 17, 20, 64))):x}",
        "80000",
        "10000",
        ",",
        ";",
        ":",
        "=",
        "-1",
        "zz",
        "s",
        "c",
    )
    text = start + "".join(rng.choice(fields) for _ in range(rng.randint(0, 6)))
    if text[:1] in "GP" or text.startswith(("k", "vKill", "D")):  # these may well crash the guest, or end the session
        text = "m" + text
    return text.encode() + (rng.randbytes(3) if rng.random() < 0.1 else b"")
