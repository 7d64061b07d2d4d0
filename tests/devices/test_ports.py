"""The small ports, and the console behind them."""

from __future__ import annotations

import pytest

from hypervisor.backends.console import Console
from hypervisor.bus.clock import TimerQueue
from hypervisor.devices.debug_ports import DebugConsole, DebugExit, PostPort
from hypervisor.devices.power_ports import POWER_OFF_PORTS, Port92, PowerOffPort, ResetControl


def test_post_remembers_the_last_checkpoint() -> None:
    post = PostPort()
    post.write(0, 1, 0x42)
    assert post.code == post.read(0, 1) == 0x42


def test_debug_console_says_that_it_is_there_and_passes_bytes() -> None:
    console = Console()
    port = DebugConsole(console.write)
    assert port.read(0, 1) == 0xE9
    for byte in b"hello\n":
        port.write(0, 1, byte)
    assert console.text == "hello\n"


@pytest.mark.parametrize(("size", "value", "status"), [(1, 0, 1), (1, 0x10, 0x21), (4, 0x12345678, 0x2468ACF1)])
def test_debug_exit_gives_an_odd_status(size: int, value: int, status: int) -> None:
    got: list[int] = []
    port = DebugExit(got.append)
    port.write(1, 1, 7)
    port.write(0, size, value)
    assert got == [status] and port.read(0, 1) == 0


@pytest.mark.parametrize(("port", "word"), POWER_OFF_PORTS.items())
def test_power_off_needs_the_machines_own_word(port: int, word: int) -> None:
    calls: list[None] = []
    device = PowerOffPort(lambda: calls.append(None), word, f"poweroff{port:x}")
    for size, value in ((1, word & 0xFF), (2, 0), (2, word & ~0x2000), (2, word ^ 0x1000)):
        device.write(0, size, value)
    device.write(1, 1, word >> 8)
    assert calls == []
    device.write(0, 2, word)
    assert len(calls) == 1
    device.write(0, 4, word | 1)
    assert len(calls) == 2


def test_port_92_drives_a20_at_writes_and_resets_at_a_rising_bit() -> None:
    a20: list[bool] = []
    resets: list[None] = []
    port = Port92(a20.append, lambda: resets.append(None))
    port.write(0, 1, 0x02)
    port.write(0, 1, 0x02)
    assert a20 == [True, True] and port.read(0, 1) == 2
    port.write(0, 1, 0x01)
    assert a20 == [True, True, False] and len(resets) == 1
    port.write(0, 1, 0x03)
    assert len(resets) == 1
    port.reset()
    assert a20 == [True, True, False, True, False]


def test_reset_control_resets_at_a_rising_bit_2() -> None:
    resets: list[None] = []
    port = ResetControl(lambda: resets.append(None))
    port.write(0, 1, 0x02)
    assert resets == [] and port.read(0, 1) == 0x02
    port.write(0, 1, 0x06)
    assert len(resets) == 1
    port.write(0, 1, 0x06)
    assert len(resets) == 1
    port.write(0, 1, 0x02)
    port.write(0, 1, 0x0E)
    assert len(resets) == 2


def test_console_collects_and_tells_its_listeners() -> None:
    console = Console()
    heard: list[bytes] = []
    stop = console.listen(heard.append)
    console.write(b"caf\xc3")
    console.write(b"\xa9 \xff")
    stop()
    console.write(b"!")
    assert heard == [b"caf\xc3", b"\xa9 \xff"]
    assert console.text == "café \ufffd!" and console.bytes == b"caf\xc3\xa9 \xff!" and len(console) == 8
    assert console.find(b"!") == 7 and console.find(b"x") == -1
    console.clear()
    assert console.text == ""


def test_cancelled_timers_do_not_pile_up() -> None:
    queue = TimerQueue()
    keep = [queue.add(n, lambda: None) for n in range(10)]
    for n in range(100_000):
        queue.add(10**9 + n, lambda: None).cancel()
    assert len(queue._heap) < 200
    assert queue.run_due(100) == len(keep)
