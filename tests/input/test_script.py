"""Scripts: their lines, their mistakes, and a boot sector that is talked to on every way it has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.machine.script import Playing, parse, unescaped
from tests.cli.command import hypervisor
from tests.input.machines import sector

TALKS = """
    mov bx, text
    call say
    mov dx, 0x3fd
poll: in al, dx
    test al, 1
    jz poll
    mov dx, 0x3f8
    in al, dx
    cmp al, 'a'
    jne poll
    mov bx, other
    call say
    mov ah, 0
    int 0x16
    cmp al, 'b'
    jne quit
    mov dx, 0x2f8
    mov al, '!'
    out dx, al
    mov ah, 0
    int 0x16
    cmp ax, 0x3b00
    jne quit
    mov dx, 0x604
    mov ax, 0x2000
    out dx, ax
say: mov al, [bx]
    test al, al
    jz said
    call put
    inc bx
    jmp say
said: ret
text: .asciz "send me an a"
other: .asciz "type a b"
"""
"""Wants an a on COM1, a b on the keyboard and then F1, and says so on COM1 and, before the last, on COM2."""

SCRIPT = """
# a comment, and an empty line

wait "send me"
sleep 0.25
send "a"
wait serial0 "type a b"   # on the port by name
type "b"
wait serial1 "!"
press f1
"""


def test_a_script_is_played(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(sector(TALKS))
    (tmp_path / "script").write_text(SCRIPT)
    result = hypervisor("run", str(tmp_path / "image"), "--script", str(tmp_path / "script"), "--timeout", "60")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"send me an atype a b", b"")


def test_a_script_repeats_bit_for_bit(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(sector(TALKS))
    (tmp_path / "script").write_text(SCRIPT)
    runs = []
    for number in range(2):
        stats = tmp_path / f"stats{number}"
        arguments = ["--script", str(tmp_path / "script"), "--stats", str(stats), "--timeout", "60"]
        assert hypervisor("run", str(tmp_path / "image"), *arguments).returncode == 0
        facts = json.loads(stats.read_text())
        runs.append((facts["virtual_s"], facts["exits"]))
    assert runs[0] == runs[1] and runs[0][0] > 0.25


def test_a_script_that_was_not_played_to_its_end_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(sector(TALKS))
    (tmp_path / "script").write_text(SCRIPT + '\nwait "more"\n')
    result = hypervisor("run", str(tmp_path / "image"), "--script", str(tmp_path / "script"), "--timeout", "60")
    assert result.returncode == 125
    assert b'the run ended while line 12 (wait "more") was waiting.' in result.stderr


def test_check_knows_whether_a_script_was_played() -> None:
    with hv.boot(sector("mov dx, 0x604; mov ax, 0x2000; out dx, ax"), memory="4M") as machine:
        whole = machine.run(until=Playing(machine, parse('send "x"', "script")), timeout=60)
        assert whole.check() is whole
        machine.reset()
        part = machine.run(until=Playing(machine, parse('send "x"\nwait "y"', "script")), timeout=60)
        assert part.reason is hv.Reason.POWERED_OFF
        with pytest.raises(hv.GuestCrashed, match=r'until line 2 of its script \(wait "y"\) was played'):
            part.check()


def test_a_script_wakes_a_guest_that_nothing_else_would() -> None:
    """The guest halts with only its UART to wake it; what the script sends arrives before it is found to be idle."""
    source = """
        mov word ptr [0x30], quit
        mov word ptr [0x32], 0
        mov al, 0xef
        out 0x21, al
        mov dx, 0x3f9
        mov al, 1
        out dx, al
        mov al, '>'
        call put
        sti
    wait: hlt
        jmp wait
    """
    with hv.boot(sector(source), memory="4M") as machine:
        playing = Playing(machine, parse('wait ">"\nsend "x"', "script"))
        assert machine.run(until=playing, timeout=60).reason is hv.Reason.DEBUG_EXIT
        assert playing.waits_at is None


def test_text_is_typed_from_the_command_line(tmp_path: Path) -> None:
    typed = "mov ah, 0; int 0x16; mov ah, 14; int 0x10; cmp al, 13; je quit; jmp main"
    (tmp_path / "image").write_bytes(sector(typed))
    text = "Hello, World! It is longer than the ring of keys."
    result = hypervisor("run", str(tmp_path / "image"), "--type", text + r"\n", "--timeout", "60")
    assert (result.returncode, result.stdout) == (1, text.encode() + b"\r")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('wiat "x"', "'wiat' is nothing that a script does; a line begins with wait, send, type, press, sleep."),
        ("wait x", "'x' is no text in double quotes, such as wait \"text\"."),
        ('wait "x', "is no text in double quotes"),
        ('wait ""', "'' is no text to wait for"),
        ('wait serial7 "x"', "'serial7' is no stream; there are serial0, serial1"),
        ('send screen "x"', "'screen' takes no input; send goes to serial0"),
        ('type serial0 "x"', "type goes to the keyboard, not to 'serial0'."),
        ('type "ß"', "No key of a US keyboard types 'ß'"),
        (r'send "\q"', r"\q is not an escape; there are \n"),
        ("press", "press needs keys, such as press ctrl alt delete."),
        ("press hyper x", "There is no key 'hyper'"),
        ("sleep soon", "sleep 'soon': give a number of seconds, such as sleep 0.5."),
        ("sleep -1", "give a number of seconds"),
        ("sleep inf", "give a number of seconds"),
    ],
)
def test_a_mistake_is_told_with_its_line(line: str, sentence: str) -> None:
    with pytest.raises(hv.ConfigError) as caught:
        parse(f"# first\n\n{line}\n", "boot.script")
    assert str(caught.value).startswith("boot.script, line 3: ") and sentence in str(caught.value)


def test_a_mistake_costs_no_run(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("frobnicate\n")
    result = hypervisor("run", "hello", "--script", str(tmp_path / "script"))
    assert (result.returncode, result.stdout) == (125, b"")
    assert b"script, line 1: 'frobnicate' is nothing" in result.stderr
    result = hypervisor("run", "hello", "--script", str(tmp_path / "missing"))
    assert result.returncode == 125 and b"missing' cannot be read: No such file or directory." in result.stderr


def test_escapes() -> None:
    assert unescaped(r"a\n\r\t\e\\\"\x41\x7f") == 'a\n\r\t\x1b\\"A\x7f'
