"""Streams: serial ports, debug console and BIOS teletype apart, and waiting for text on one or on any."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.console.streams import Stream
from tests.sectors import boot_sector

PORTS = {0: 0x3F8, 1: 0x2F8, 2: 0x3E8, 3: 0x2E8}
OFF = "mov dx, 0x604; mov ax, 0x2000; out dx, ax; hlt"
Boot = Callable[..., Any]


def prints(text: str, port: int) -> str:
    return f"mov dx, {port}; " + "; ".join(f"mov al, {byte}; out dx, al" for byte in text.encode()) + "; jmp $ + 2"


@pytest.fixture
def talker(vm: Boot) -> Any:
    """A guest that says something on each of its streams, then switches off."""
    code = [prints(f"port {number}\n", port) for number, port in PORTS.items()]
    teletype = "; ".join(f"mov ax, {0x0E00 | byte}; int 0x10" for byte in b"bios\n")
    source = "\n".join([*code, prints("debug\n", 0xE9), teletype, prints("last\n", PORTS[0]), OFF])
    return vm(boot_sector(source), memory="4M")


def test_each_stream_has_its_own_text_and_the_console_what_is_shown(talker: Any) -> None:
    assert talker.run(timeout=30).reason is hv.Reason.POWERED_OFF
    assert [talker.serial[n].text for n in range(4)] == ["port 0\nlast\n", "port 1\n", "port 2\n", "port 3\n"]
    assert (talker.debugcon.text, talker.bios_tty.text) == ("debug\n", "bios\n")
    assert talker.console.text == "port 0\ndebug\nbios\nlast\n"


@pytest.mark.parametrize("text", ["port 0", "port 1", "port 3", "debug", "bios", "last"])
def test_until_looks_at_every_stream(talker: Any, text: str) -> None:
    result = talker.run(until=text, timeout=30)
    assert result.reason is hv.Reason.UNTIL and repr(text) in result.message


def test_until_looks_at_the_stream_that_is_named(talker: Any) -> None:
    assert talker.run(until=talker.serial[1].contains("port"), timeout=30).reason is hv.Reason.UNTIL
    assert talker.serial[1].text == "port 1\n" and talker.serial[2].text == ""
    assert talker.run(until=talker.serial[1].contains("port"), timeout=30).reason is hv.Reason.POWERED_OFF


def test_a_text_counts_once(talker: Any) -> None:
    assert talker.run(until="port", timeout=30).message == "serial port 0 shows 'port'"
    assert talker.run(until="port", timeout=30).message == "serial port 1 shows 'port'"
    assert talker.run(until="port 0", timeout=30).reason is hv.Reason.POWERED_OFF


def test_expect_gives_the_match_and_the_text_before(talker: Any) -> None:
    found = talker.serial[0].expect(r"l(\w+)t", timeout=30)
    assert (found.before, found.text, found[1], found.source) == ("port 0\n", "last", "as", "serial port 0")
    assert talker.serial[2].expect("2", timeout=30).before == "port "  # written before, and still new there
    assert talker.expect(re.compile("DEBUG", re.IGNORECASE), timeout=30).source == "the debug console"


def test_expect_says_what_came_instead(talker: Any) -> None:
    with pytest.raises(hv.ExpectError) as caught:
        talker.serial[0].expect("first", timeout=30)
    text = str(caught.value)
    assert "serial port 0 shows 'first'" in text and "powered-off" in text and text.endswith("port 0\nlast")
    with pytest.raises(hv.ExpectError, match=r"(?s)the debug console ends with:\ndebug.*the BIOS teletype ends with"):
        talker.expect("nowhere", timeout=30)


@pytest.mark.parametrize("wrong", ["", 5, b"bytes", None])
def test_what_is_no_text_is_refused(talker: Any, wrong: Any) -> None:
    with pytest.raises(hv.ConfigError):
        talker.serial[0].contains(wrong)


@pytest.mark.parametrize("wrong", ["(", 5, b"bytes"])
def test_what_is_no_expression_is_refused(talker: Any, wrong: Any) -> None:
    with pytest.raises(hv.ConfigError, match=r"regular expression|pattern of bytes"):
        talker.expect(wrong)


def test_a_port_that_the_board_lacks(talker: Any) -> None:
    with pytest.raises(hv.DeviceError, match=r"serial\[4\].*it has 0, 1, 2, 3"):
        talker.serial[4].send("x")


def test_a_direct_write_to_the_console_is_found(talker: Any) -> None:
    talker.console.write(b"from a plugin")
    assert talker.run(until="plugin", timeout=30).reason is hv.Reason.UNTIL
    assert talker.run(until="plugin", timeout=30).reason is hv.Reason.POWERED_OFF


@pytest.mark.parametrize("seed", range(20))
def test_waits_find_what_a_search_of_the_whole_finds(talker: Any, seed: int) -> None:
    """However the bytes arrive, successive waits give what one pass over all of the text gives."""
    rng = random.Random(seed)
    data = bytes(rng.choice(b"ab\n\xc3\xa9\xff") for _ in range(400))
    pattern = re.compile(rng.choice(["ab", "a+b", "é", r"[^\n]b\n", "é.a"]), rng.choice([0, re.DOTALL]))
    text = data.decode("utf-8", "surrogateescape")
    stream = Stream("s", talker)
    position, got = 0, []
    while position < len(data):
        step = rng.randrange(1, 30)
        stream.write(data[position : position + step])
        position += step
        if pattern.pattern != "ab" and position < len(data):
            continue  # greedy patterns may match less when they see less
        while (wait := stream.waiting_for(pattern, named=True)).holds():
            assert wait.found is not None
            got.append(wait.found.text)
    assert got == [match.group() for match in pattern.finditer(text)]


INTERRUPTED = f"""
    cli
    xor ax, ax; mov ds, ax; mov es, ax; mov ss, ax; mov sp, 0x7c00
    mov word ptr [0x30], serve; mov word ptr [0x32], 0
    mov word ptr [0x2c], serve; mov word ptr [0x2e], 0
    mov al, 0xe7; out 0x21, al
    mov di, ports
each: mov dx, [di]
    add dx, 1; mov al, 1; out dx, al
    add dx, 3; mov al, 8; out dx, al
    add di, 2
    cmp di, ports_end
    jb each
    sti
wait: hlt
    jmp wait
serve:
    pusha
again:
    xor cx, cx
    mov di, ports
look: mov dx, [di]
    add dx, 5; in al, dx
    test al, 1
    jz next
    sub dx, 5; in al, dx
    cmp al, 'q'
    je off
    sub al, 32
    out dx, al
    inc cx
next: add di, 2
    cmp di, ports_end
    jb look
    test cx, cx
    jnz again
    mov al, 0x20; out 0x20, al
    popa
    iret
off: {OFF}
ports: .word 0x3f8, 0x2f8, 0x3e8, 0x2e8
ports_end:
"""


def test_four_ports_on_two_shared_interrupts(vm: Boot) -> None:
    """Every port has its input, though COM1 and COM3 share a line, and COM2 and COM4 do."""
    guest = vm(boot_sector(INTERRUPTED), memory="4M")
    texts = ["the quick".replace("q", "k"), "brown fox", "jumps over", "a lazy dog"]
    for number, text in enumerate(texts):
        guest.serial[number].send(text.replace(" ", ""))
    for number, text in enumerate(texts):
        assert guest.serial[number].expect(text.replace(" ", "").upper(), timeout=60)
        assert guest.serial[number].text == text.replace(" ", "").upper()
    guest.serial[3].send("q")
    assert guest.run(timeout=60).reason is hv.Reason.POWERED_OFF
