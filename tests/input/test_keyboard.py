"""The keyboard: scan codes of sets 1 and 2 as a guest reads them, here and under QEMU; typing, and its timing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hypervisor as hv
from tests.input.machines import Step, here, sector, under_qemu

SCAN_CODES = """
    mov word ptr [0x24], int9
    mov word ptr [0x26], 0
    {setup}
    in al, 0x21
    and al, 0xfd
    out 0x21, al
    mov al, '>'
    call put
    sti
wait: hlt
    jmp wait
int9:
    in al, 0x64
    test al, 1
    jz done
    in al, 0x60
    call hex
    cmp al, {last}
    je quit
done: mov al, 0x20
    out 0x20, al
    iret
# What the keyboard answers, without its interrupt.
command: out 0x60, al
answer: in al, 0x64
    test al, 1
    jz answer
    in al, 0x60
    jmp hex
"""
"""Prints each byte of port 60h."""

MASK = "in al, 0x21; or al, 2; out 0x21, al;"
NO_TRANSLATION = f"{MASK} mov al, 0x60; out 0x64, al; mov al, 0x25; out 0x60, al;"
SETS = {
    "set 1": ("", 0x81),
    "set 2": (
        f"{NO_TRANSLATION} mov al, 0xf0; call command; mov al, 2; call command; mov al, 0xf4; call command",
        0x76,
    ),
    "set 1 of the keyboard": (f"{NO_TRANSLATION} mov al, 0xf0; call command; mov al, 1; call command", 0x81),
}
"""How the guest chooses, and the code of Esc that ends it."""

KEYS = (
    "a z 1 0 minus equal backspace tab bracket_left bracket_right ret semicolon apostrophe grave_accent backslash "
    "comma dot slash spc caps_lock f1 f10 f11 f12 num_lock scroll_lock kp_7 kp_subtract kp_5 kp_add kp_0 kp_decimal "
    "kp_multiply kp_divide kp_enter insert delete home end pgup pgdn up down left right ctrl_r alt_r shift_r "
    "meta_l meta_r compose less print pause"
).split()


def guest(setup: str, last: int) -> bytes:
    return sector(SCAN_CODES.format(setup=setup, last=last))


@pytest.mark.parametrize("scan_set", SETS)
def test_scan_codes_are_those_of_qemu(scan_set: str, tmp_path: Path) -> None:
    def press_all(vm: hv.VM) -> None:
        for key in KEYS:
            vm.keyboard.press(key)
        vm.keyboard.press("ctrl", "alt", "x")
        vm.keyboard.press("esc")

    commands = [f"sendkey {key} 30" for key in KEYS]
    step: Step = (">", [*commands, "sendkey ctrl-alt-x 30", "sendkey esc 30"], press_all)
    image = guest(*SETS[scan_set])
    ours, theirs = here(image, [step]), under_qemu(image, tmp_path, [step])
    assert ours.split(">")[1] == theirs.split(">")[1]
    assert len(ours.split()) > 2 * len(KEYS)


def codes(act: Callable[[hv.VM], object], setup: str = "", last: int = 0x81) -> list[int]:
    text = here(guest(setup, last), [(">", (), lambda vm: (act(vm), vm.keyboard.press("esc")))])
    return [int(code, 16) for code in text.split(">")[1].split()]


def test_typing_shifts_where_a_key_needs_it() -> None:
    assert codes(lambda vm: vm.keyboard.type("aB\n")) == [
        0x1E, 0x9E, 0x2A, 0x30, 0xB0, 0xAA, 0x1C, 0x9C, 0x01, 0x81,
    ]  # fmt: skip


def test_every_character_of_the_keyboard_has_a_key() -> None:
    printable = "".join(map(chr, range(0x20, 0x7F)))
    assert len(codes(lambda vm: vm.keyboard.type(printable + "\t\b\n", rate=1000))) > 2 * len(printable)


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda vm: vm.keyboard.type("aß"), "No key of a US keyboard types 'ß'"),
        (lambda vm: vm.keyboard.type("a", rate=0), "rate=0: give a number of keys per second"),
        (lambda vm: vm.keyboard.press("contrl", "c"), "There is no key 'contrl'; there are single characters and alt"),
        (lambda vm: vm.keyboard.press("A"), r"press\('shift', ...\)"),
        (lambda vm: vm.mouse.click("leftmost"), "no mouse button 'leftmost'; there are left, right"),
        (lambda vm: vm.mouse.move(1.5, 0), "give whole numbers"),
        (lambda vm: vm.keyboard.type(5), r"type\(5\): give a text"),
        (lambda vm: vm.keyboard.press(5), "5 is no key: give a character, or a name"),
        (lambda vm: vm.keyboard.press("a", hold="long"), "hold='long': give a number of seconds"),
        (lambda vm: vm.serial[0].send(None), r"send\(None\): give a text, or bytes"),
    ],
)
def test_mistakes_are_told_and_press_nothing(act: Callable[[hv.VM], object], sentence: str, vm: Any) -> None:
    machine = vm(guest("", 0x81), memory="4M")
    with pytest.raises(hv.ConfigError, match=sentence):
        act(machine)
    assert machine.keyboard.pending == machine.mouse.pending == 0


def times(act: Callable[[hv.VM], object]) -> list[tuple[float, int]]:
    """When a guest, in seconds after it was ready, read which code."""
    with hv.boot(guest("", 0x81), memory="4M") as vm:
        read: list[tuple[float, int]] = []

        @vm.traps.port_in(0x60, mode="observe", when="after")
        def seen(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            read.append((vm.clock.now_ns / 1e9 - start, exit.value))

        vm.serial[0].expect(">", timeout=60)
        start = vm.clock.now_ns / 1e9
        act(vm)
        vm.keyboard.press("esc")
        assert vm.run(timeout=60).reason is hv.Reason.DEBUG_EXIT
        return read


def test_keys_are_typed_at_their_rate_of_the_virtual_clock() -> None:
    presses = [time for time, code in times(lambda vm: vm.keyboard.type("a" * 5, rate=10)) if code == 0x1E]
    assert presses == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4], abs=0.001)


def test_a_key_that_is_held_repeats_as_the_keyboard_is_set() -> None:
    """After a reset: a delay of half a second, then 10.9 repeats a second."""
    presses = [time for time, code in times(lambda vm: vm.keyboard.press("x", hold=0.75)) if code == 0x2D]
    assert presses == pytest.approx([0.0, 0.5, 0.592, 0.683], abs=0.002)
    assert [code for _, code in times(lambda vm: vm.keyboard.press("x", hold=0.4))][:2] == [0x2D, 0xAD]


def test_what_is_typed_waits_for_a_guest_that_does_not_read(vm: Any) -> None:
    """Nothing is lost, and a guest that waits for nothing is idle in spite of it."""
    listens_late = f"mov al, '>'; call put; mov ah, 0x86; mov cx, 10; xor dx, dx; int 0x15; cli; {SCAN_CODES}"
    text = "what is typed ahead of a guest must not be lost"
    machine = vm(sector(listens_late.format(setup="", last=0x81)), memory="4M")
    machine.serial[0].expect(">", timeout=60)
    machine.keyboard.type(text)
    machine.keyboard.press("esc")
    assert machine.run(timeout=60).reason is hv.Reason.DEBUG_EXIT


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_another_thread_may_type_while_the_guest_runs(clock: str) -> None:
    """The guest sleeps with nothing but its timer and its keyboard to wake it."""
    with hv.boot(guest("", 0x81), memory="4M", clock=clock) as vm:
        vm.serial[0].expect(">", timeout=60)

        def press() -> None:
            vm.keyboard.type("ok")
            vm.keyboard.press("esc")

        thread = threading.Timer(0.1, press)
        thread.start()
        result = vm.run(timeout=60)
        thread.join()
        assert result.reason is hv.Reason.DEBUG_EXIT
        assert vm.serial[0].text.split(">")[1] == "18 98 25 a5 01 81 "
