from __future__ import annotations

import pytest

from hypervisor.firmware.bios.call import AGAIN
from tests.boot.bios_fakes import Machine


@pytest.fixture
def machine() -> Machine:
    return Machine()


def say(machine: Machine, text: str) -> None:
    for character in text.encode():
        machine.bios.serve(_call(machine, 0x0E00 | character))


def _call(machine: Machine, ax: int, **registers: int):  # type: ignore[no-untyped-def]
    from hypervisor.firmware.bios.call import Call

    for name, value in {"ax": ax, "rsp": 0x7BFA, **registers}.items():
        machine.vcpu.set(name, value)
    return Call(machine.vcpu, 0x10)


def do(machine: Machine, ax: int, **registers: int) -> None:
    machine.bios.serve(_call(machine, ax, **registers))


def cursor(machine: Machine) -> tuple[int, int]:
    do(machine, 0x0300, bx=0)
    return machine.vcpu.dh, machine.vcpu.dl


def test_teletype_writes_screen_and_terminal(machine: Machine) -> None:
    say(machine, "Hello\r\nworld\x07")
    assert bytes(machine.tty) == b"Hello\r\nworld\x07"
    assert (machine.screen(0), machine.screen(1)) == ("Hello", "world")
    assert cursor(machine) == (1, 5)
    assert machine.ports.writes[-4:] == [(0x3D4, 0x0E), (0x3D5, 0), (0x3D4, 0x0F), (0x3D5, 85)]


def test_teletype_keeps_the_attribute_wraps_and_goes_back(machine: Machine) -> None:
    machine.memory.write(0xB8001, b"\x1f")
    say(machine, "x" * 81)
    assert machine.memory.read(0xB8000, 2) == b"x\x1f"
    assert cursor(machine) == (1, 1)
    say(machine, "\b\b\b")
    assert cursor(machine) == (1, 0)


def test_the_screen_scrolls(machine: Machine) -> None:
    say(machine, "\r\n".join(f"line {number}" for number in range(30)))
    assert (machine.screen(0), machine.screen(24)) == ("line 5", "line 29")
    assert cursor(machine) == (24, 7)


def test_write_string(machine: Machine) -> None:
    machine.memory.write(0x9000, b"abc")
    do(machine, 0x1301, bx=0x001E, cx=3, dx=0x0205, es=0x900, bp=0)
    assert machine.memory.read(0xB8000 + 2 * (2 * 80 + 5), 6) == b"a\x1eb\x1ec\x1e"
    assert cursor(machine) == (2, 8)
    assert bytes(machine.tty) == b"abc"
    machine.memory.write(0x9000, b"d\x0ae\x0b")
    do(machine, 0x1302, bx=0, cx=2, dx=0x0300, es=0x900, bp=0)
    assert machine.memory.read(0xB8000 + 480, 4) == b"d\x0ae\x0b"
    assert cursor(machine) == (2, 8)


def test_a_long_string_is_written_in_parts(machine: Machine) -> None:
    """The call is made again until all is written; in between the run can end."""
    machine.memory.write(0x9000, b"".join(b"%-80d" % line for line in range(30)) + b"end")
    do(machine, 0x0200, bx=0, dx=0x0203)
    call = _call(machine, 0x1300, bx=0x0007, cx=30 * 80 + 3, dx=0, es=0x900, bp=0)
    parts = 1
    while machine.bios.serve(call) is AGAIN:
        assert len(machine.tty) == 80 * parts
        parts += 1
    assert parts == 31
    assert (machine.screen(0), machine.screen(23), machine.screen(24)) == ("6", "29", "end")
    assert bytes(machine.tty) == machine.memory.read(0x9000, 30 * 80 + 3)
    assert cursor(machine) == (2, 3)  # AL = 0: where it was


def test_cells_at_the_cursor(machine: Machine) -> None:
    do(machine, 0x0200, bx=0, dx=0x0102)
    do(machine, 0x0941, bx=0x004F, cx=3)
    assert machine.screen(1) == "  AAA" and machine.memory.read(0xB8000 + 2 * 82 + 1, 1) == b"\x4f"
    do(machine, 0x0A42, bx=0, cx=1)
    do(machine, 0x0800, bx=0)
    assert machine.vcpu.ax == 0x4F42
    do(machine, 0x0943, bx=0, cx=0xFFFF)  # not past the end of text memory
    assert machine.memory.read(0xBFFFE, 4) == b"C\0\x55\xaa"


def test_scrolling_a_window(machine: Machine) -> None:
    say(machine, "aaaa\r\nbbbb\r\ncccc")
    do(machine, 0x0601, bx=0x1700, cx=0x0001, dx=0x0202)
    assert [machine.screen(row) for row in range(3)] == ["abba", "bccb", "c  c"]
    assert machine.memory.read(0xB8000 + 2 * 161, 2) == b" \x17"
    do(machine, 0x0701, bx=0x0700, cx=0, dx=0x024F)
    assert [machine.screen(row) for row in range(3)] == ["", "abba", "bccb"]
    do(machine, 0x0600, bx=0x0700, cx=0, dx=0xFFFF)
    assert machine.screen(1) == ""


def test_modes_and_pages(machine: Machine) -> None:
    say(machine, "x")
    do(machine, 0x0083)
    assert machine.screen(0) == "x"
    do(machine, 0x0F00)
    assert machine.vcpu.ax == 0x5083
    do(machine, 0x0001)
    assert machine.screen(0) == ""
    do(machine, 0x0F00)
    assert (machine.vcpu.ax, machine.vcpu.bh) == (0x2801, 0)
    do(machine, 0x0003)
    do(machine, 0x0502)
    assert machine.memory.unpack("H", 0x44E) == (0x2000,)
    assert (0x3D5, 0x10) in machine.ports.writes[-8:]


def test_modes_that_a_vga_does_not_have_are_refused_by_name(machine: Machine) -> None:
    do(machine, 0x0014)
    assert machine.vcpu.ah == 0x86
    assert machine.log == ["guest called INT 10h AH=00h (set video mode (0 to 7, 0Dh to 13h)): not provided"]


def test_the_adapter_is_a_vga(machine: Machine) -> None:
    do(machine, 0x1A00)
    assert (machine.vcpu.al, machine.vcpu.bx) == (0x1A, 8)
    do(machine, 0x1200, bx=0x10)
    assert machine.vcpu.bx == 3
