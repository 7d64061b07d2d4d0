"""INT 16h and the keyboard interrupt: the same keys give the same words here and under SeaBIOS."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import hypervisor as hv
from tests.input.machines import Step, here, sector, under_qemu

KEYS = (
    "a z m 1 2 6 9 0 minus equal bracket_left bracket_right backslash semicolon apostrophe grave_accent comma dot "
    "slash spc ret tab backspace esc f1 f2 f10 f11 kp_7 kp_8 kp_9 kp_subtract kp_4 kp_5 kp_6 kp_add kp_1 kp_2 kp_3 "
    "kp_0 kp_decimal kp_multiply kp_divide kp_enter insert delete home end pgup pgdn up down left right less"
).split()
READ = """
    mov al, '>'
    call put
next: sti
    hlt
    mov ah, {peek}
    int 0x16
    jz next
    call hex16
    mov ah, {read}
    int 0x16
    call hex16
    push ax
    mov ah, 0x02
    int 0x16
    and al, 0x7f
    call hex
    pop ax
    cmp ax, 0x8600
    jne next
    jmp quit
"""
"""Prints each key as it is seen, as it is read, and the shift flags then, up to F12. (SeaBIOS leaves out the flag of
the insert key.)
"""


def combinations(seed: int) -> list[str]:
    """All keys by themselves, and a third of them with each of the shifts; locks now and then."""
    rng = random.Random(seed)
    strokes = list(KEYS)
    for shift in ("shift", "ctrl", "alt", "shift_r", "ctrl_r", "alt_r"):
        strokes += [f"{shift}-{key}" for key in rng.sample(KEYS, 18)]
    strokes += ["caps_lock", "num_lock", "caps_lock", "num_lock", "scroll_lock", "scroll_lock"]
    strokes = [stroke for stroke in strokes if stroke not in ("ctrl-delete", "alt-delete")]
    rng.shuffle(strokes)
    return strokes


@pytest.mark.parametrize(("peek", "read", "seed"), [(0x11, 0x10, 1), (0x01, 0x00, 2)])
def test_keys_are_those_of_seabios(peek: int, read: int, seed: int, tmp_path: Path) -> None:
    strokes = [*combinations(seed), "f12"]

    def press(vm: hv.VM) -> None:
        for stroke in strokes:
            vm.keyboard.press(*stroke.split("-"))

    step: Step = (">", [f"sendkey {stroke} 30" for stroke in strokes], press)
    image = sector(READ.format(peek=peek, read=read))
    assert here(image, [step]) == under_qemu(image, tmp_path, [step])


def test_a_guest_that_looks_for_keys_with_interrupts_off_gets_them() -> None:
    """As on a PC, whose INT 16h lets interrupts in."""
    poll = "mov al, '>'; call put; next: mov ah, 1; int 0x16; jz next; call hex16; pushf; pop ax; call hex16; jmp quit"
    text = here(sector(poll), [(">", (), lambda vm: vm.keyboard.type("x"))])
    key, flags = text.split(">")[1].split()
    assert key == "2d78" and not int(flags, 16) & 1 << 9


@pytest.mark.parametrize("delete", ["delete", "kp_decimal"])
def test_ctrl_alt_del_resets_the_machine(delete: str) -> None:
    with hv.boot(sector("mov al, '>'; call put; sti; wait: hlt; jmp wait"), memory="4M") as vm:
        vm.serial[0].expect(">", timeout=60)
        vm.keyboard.press("ctrl", "alt", delete)
        assert vm.run(timeout=60).reason is hv.Reason.RESET


def test_ctrl_break_calls_int_1bh() -> None:
    hooked = """
        mov word ptr [0x6c], int1b
        mov word ptr [0x6e], 0
        mov al, '>'
        call put
        sti
    wait: hlt
        jmp wait
    int1b: mov al, [0x471]
        call hex
        jmp quit
    """
    press = [(">", (), lambda vm: vm.keyboard.press("ctrl", "break"))]
    assert here(sector(hooked), press) == ">80 "
