"""The BIOS as a whole: stubs, dispatch, what is not served."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from hypervisor.arch.font import font
from hypervisor.firmware.bios import rom
from hypervisor.traps.verdicts import HANDLED, PASS, stop
from tests.boot.bios_fakes import CF, Machine, Segment


def test_every_vector_points_into_the_rom() -> None:
    memory = Machine().memory
    for vector in range(256):
        offset, segment = memory.unpack("HH", 4 * vector)
        if vector in (0x1F, 0x43):  # fonts
            assert segment == 0xC000
            continue
        assert segment == 0xF000
        if vector in (0x10, 0x13, 0x15, 0x16, 0x1A, 0x21):
            assert rom.vector_of(0xF0000 + offset) == vector
            assert memory.read(0xF0000 + offset, 4) == b"\x0f\x01\xd9\x72"


def test_the_entry_points_of_the_ibm_pc() -> None:
    memory = Machine().memory
    assert memory.unpack("HH", 4 * 0x02) == (0xE2C3, 0xF000)
    services = {0xE2C3: 0x02, 0xE739: 0x14, 0xE82E: 0x16, 0xF065: 0x10, 0xF841: 0x12, 0xF84D: 0x11, 0xF859: 0x15}
    services |= {0xE3FE: 0x13, 0xEC59: 0x13, 0xE6F2: 0x19, 0xEFD2: 0x17, 0xFE6E: 0x1A, 0xFF54: 0x05}
    for offset, vector in services.items():
        opcode, distance = memory.unpack("Bh", 0xF0000 + offset)
        assert (opcode, rom.vector_of(0xF0000 + offset + 3 + distance)) == (0xE9, vector)
    for offset, target in {0xE987: 0x09, 0xFEA5: 0x08}.items():
        opcode, distance = memory.unpack("Bh", 0xF0000 + offset)
        assert (opcode, offset + 3 + distance) == (0xE9, memory.unpack("H", 4 * target)[0])
    assert memory.read(0xFFF53, 1) == b"\xcf"
    assert memory.read(0xFFA6E + 8 * ord("A"), 8) == font(8).data[8 * ord("A") : 8 * ord("B")] != bytes(8)


def test_the_bios_data_area() -> None:
    memory = Machine(bytes(512)).memory
    assert memory.unpack("H", 0x400) == (0x3F8,)
    assert memory.unpack("H", 0x40E) == (0x9FC0,)
    assert memory.unpack("H", 0x413) == (639,)
    assert memory.unpack("BH", 0x449) == (3, 80)
    assert memory.read(0x475, 1) == b"\x01"
    assert Machine().memory.read(0x475, 1) == b"\0"


def test_the_reset_vector_asks_for_a_reset() -> None:
    machine = Machine()
    machine.vcpu.segments["cs"] = Segment(0xFFFF, 0xFFFF0)
    machine.vcpu.rip = 0
    assert machine.memory.read(0xFFFF0, 5).hex() == "0f01d9ebfb"
    assert machine.traps.handler(machine.vcpu, object()) is HANDLED  # type: ignore[attr-defined]
    assert machine.requests == ["reset"]


def test_the_devices_are_set_up() -> None:
    writes = Machine().ports.writes
    assert writes[: len(rom.PORT_WRITES)] == list(rom.PORT_WRITES)
    assert Machine(ports=False).ports.writes == []


def test_hypercalls_from_elsewhere_are_passed_on() -> None:
    machine = Machine()
    vcpu: Any = machine.vcpu
    vcpu.rip = 0x7C00
    assert machine.traps.handler(vcpu, None) is PASS  # type: ignore[attr-defined]
    vcpu.segments["cs"] = Segment(0xF000, 0xF0000)
    vcpu.rip = rom.STUBS + 1
    assert machine.traps.handler(vcpu, None) is PASS  # type: ignore[attr-defined]
    vcpu.rip, vcpu.cr0 = rom.STUBS, 1
    assert machine.traps.handler(vcpu, None) is PASS  # type: ignore[attr-defined]


def test_virtual_8086_mode_is_served() -> None:
    machine = Machine()
    machine.vcpu.cr0, machine.vcpu.rflags = 1, 1 << 17
    assert machine.interrupt(0x12) is HANDLED
    assert machine.vcpu.ax == 639


def test_an_unserved_call_fails_and_is_named_once() -> None:
    machine = Machine()
    for _ in range(3):
        assert machine.interrupt(0x13, ax=0x0500) is HANDLED
        assert (machine.carry, machine.vcpu.ah) == (True, 0x86)
    machine.interrupt(0x21, ax=0x0900)
    machine.interrupt(0x77, ax=0x0105)
    assert machine.log == [
        "guest called INT 13h AH=05h (format track): not provided",
        "guest called INT 21h AH=09h (DOS): not provided",
        "guest called INT 77h AH=01h: not provided",
    ]


@pytest.mark.parametrize("vector", [0x01, 0x03, 0x04])
def test_ignored_exceptions_leave_the_flags(vector: int) -> None:
    machine = Machine()
    assert machine.interrupt(vector, flags=CF) is HANDLED
    assert machine.flags == CF
    assert machine.log == []


@pytest.mark.parametrize(("vector", "text"), [(0, "a divide error"), (6, "an invalid opcode")])
def test_a_fault_without_a_handler_is_a_crash_of_the_instruction(vector: int, text: str) -> None:
    machine = Machine()
    verdict = machine.interrupt(vector, flags=CF)
    why = f"{text} at 1000:1234, and the guest has put no handler behind interrupt vector {vector}"
    assert verdict == stop(why, crashed=True)
    vcpu = machine.vcpu
    assert (vcpu.cs.selector, vcpu.rip, vcpu.sp, vcpu.rflags & 0xFFFF) == (0x1000, 0x1234, 0x7C00, CF)


def test_a_buffer_outside_memory_fails_the_call_only() -> None:
    machine = Machine(bytes(512), size=1 << 20)
    machine.interrupt(0x13, ax=0x0201, cx=1, dx=0x80, es=0xFFFF, bx=0xFFFF)
    assert (machine.carry, machine.vcpu.ah) == (True, 0x86)
    assert "address without memory" in machine.log[0]


def test_a_stack_outside_memory_is_survived() -> None:
    machine = Machine(size=1 << 20)
    vcpu: Any = machine.vcpu
    vcpu.segments["ss"] = Segment(0xFFFF, 0xFFFF0)
    vcpu.segments["cs"] = Segment(0xF000, 0xF0000)
    vcpu.rip, vcpu.rsp = rom.STUBS + 0x150, 0x8000
    assert machine.traps.handler(vcpu, None) is HANDLED  # type: ignore[attr-defined]


def test_random_calls_never_raise() -> None:
    rng = random.Random(1)
    machine = Machine(bytes(5000), typed="abc")
    for _ in range(5000):
        machine.memory.write(0x400, rng.randbytes(0x100)) if rng.random() < 0.3 else None
        registers = {
            name: rng.choice((0, 1, 0x80, 0xFFFF, rng.randrange(65536))) for name in "bx cx dx si di bp es ds".split()
        }
        machine.interrupt(rng.choice((0x10, 0x11, 0x12, 0x13, 0x15, 0x16, 0x1A)), ax=rng.randrange(65536), **registers)
    assert len(machine.log) < 1800


def test_the_machine_code_of_the_timer_interrupt() -> None:
    """Run it on an emulator of its own: counting, carry into the high word, midnight, INT 1Ch, end of interrupt."""
    for before, after in [(0, 1), (0xFFFF, 0x10000), (0x1800AE, 0x1800AF), (0x1800AF, 0), (0x1700FF, 0x170100)]:
        ticks, midnight, events = _run_rom(rom.TIMER_CODE, before, al=None)
        assert (ticks, midnight) == (after, after == 0)
        assert events == [("int", 0x1C), ("out", 0x20, 0x20)]


@pytest.mark.parametrize(("answer", "events"), [(b"\xf8", []), (b"\xf9", [("int", 0x1B)])])
def test_the_machine_code_of_the_keyboard_interrupt(answer: bytes, events: list[tuple[Any, ...]]) -> None:
    """The handler's answer is the carry flag: Ctrl-Break."""
    code = rom.KEYBOARD_CODE
    at = rom.KEYBOARD_CALL - rom.KEYBOARD
    assert code[at : at + 3] == b"\x0f\x01\xd9"
    _, _, happened = _run_rom(code.replace(b"\x0f\x01\xd9", answer + b"\x90\x90"), 0, al=0x1E)
    assert happened == [("in", 0x64), ("in", 0x60), ("int", 0x15), *events, ("out", 0x20, 0x20)]


def test_the_keyboard_interrupt_leaves_a_byte_of_the_mouse() -> None:
    _, _, happened = _run_rom(rom.KEYBOARD_CODE, 0, al=0x3D)  # the status: a byte, of the second port
    assert happened == [("in", 0x64), ("out", 0x20, 0x20)]


def test_the_machine_code_of_the_rtc_and_dummy_interrupts() -> None:
    eoi = [("out", 0xA0, 0x20), ("out", 0x20, 0x20)]
    assert _run_rom(rom.RTC_CODE, 0, al=0)[2] == [("out", 0x70, 0x0C), ("in", 0x71), *eoi]
    assert _run_rom(rom.SLAVE_DUMMY_CODE, 0, al=0)[2] == eoi
    assert _run_rom(rom.MASTER_DUMMY_CODE, 0, al=0)[2] == eoi[1:]


def _run_rom(code: bytes, ticks: int, al: int | None) -> tuple[int, bool, list[tuple[Any, ...]]]:
    """Execute an interrupt routine up to its IRET; returns the ticks, the midnight flag and what it did."""
    unicorn = pytest.importorskip("unicorn")
    x86 = pytest.importorskip("unicorn.x86_const")
    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_16)
    uc.mem_map(0, 1 << 20)
    uc.mem_write(0xFE100, code)
    uc.mem_write(0x46C, struct.pack("<I", ticks))
    uc.mem_write(0x7BFA, struct.pack("<HHH", 0x1234, 0, 0x202))
    events: list[tuple[Any, ...]] = []
    uc.hook_add(unicorn.UC_HOOK_INTR, lambda _, vector, __: events.append(("int", vector)))
    port_out = lambda _, port, size, value, __: events.append(("out", port, value))  # noqa: E731 - unicorn wants a callable each
    uc.hook_add(unicorn.UC_HOOK_INSN, port_out, None, 1, 0, x86.UC_X86_INS_OUT)

    def port_in(_: Any, port: int, size: int, __: Any) -> int:
        events.append(("in", port))
        return al or 0

    uc.hook_add(unicorn.UC_HOOK_INSN, port_in, None, 1, 0, x86.UC_X86_INS_IN)
    uc.reg_write(x86.UC_X86_REG_CS, 0xF000)
    uc.reg_write(x86.UC_X86_REG_SP, 0x7BFA)
    uc.reg_write(x86.UC_X86_REG_EAX, 0x5678)
    uc.emu_start(0xFE100, 0x1234, count=100)
    assert uc.reg_read(x86.UC_X86_REG_SP) == 0x7C00
    assert uc.reg_read(x86.UC_X86_REG_EAX) == 0x5678
    (after,) = struct.unpack("<I", uc.mem_read(0x46C, 4))
    return after, uc.mem_read(0x470, 1) == b"\x01", events
