"""The mouse: packets as a guest reads them, here and under QEMU."""

from __future__ import annotations

from pathlib import Path

import hypervisor as hv
from tests.input.machines import Step, here, sector, under_qemu

PACKETS = """
    mov word ptr [0x1d0], int74
    mov word ptr [0x1d2], 0
    mov al, 0xa8
    out 0x64, al
    mov al, 0x60
    out 0x64, al
    mov al, 0x44
    out 0x60, al
    {setup}
    mov al, 0xf4
    call mouse
    mov al, 0x60
    out 0x64, al
    mov al, 0x46
    out 0x60, al
    in al, 0xa1
    and al, 0xef
    out 0xa1, al
    in al, 0x21
    and al, 0xfb
    out 0x21, al
    mov al, '>'
    call put
    sti
wait: hlt
    jmp wait
int74:
    in al, 0x64
    and al, 0x21
    cmp al, 0x21
    jne done
    in al, 0x60
    call hex
    cmp al, 0x0c
    je quit
done: mov al, 0x20
    out 0xa0, al
    out 0x20, al
    iret
# A command to the mouse, and its answer.
mouse: mov ah, al
    mov al, 0xd4
    out 0x64, al
    mov al, ah
    out 0x60, al
answer: in al, 0x64
    test al, 1
    jz answer
    in al, 0x60
    jmp hex
"""
"""Prints the bytes that come with IRQ 12, up to the first of a packet that says that the middle button is held."""

KNOCK = "; ".join(f"mov al, 0xf3; call mouse; mov al, {rate}; call mouse" for rate in (200, 100, 80))
WHEEL = f"{KNOCK}; mov al, 0xf2; call mouse; call answer"

STALE = """
    cli
    mov al, 0x60
    out 0x64, al
    mov al, 0x45
    out 0x60, al
    mov al, 0x20
    out 0x64, al
    in al, 0x60               # the command byte: its IRQ 1 stays pending
    mov al, 0x60
    out 0x64, al
    mov al, 0x44
    out 0x60, al
"""

MOVES = [(5, 3, 0), (-7, 0, 0), (0, -100, 0), (120, -120, 0)]
TURNS = [1, 1, -1]


def test_packets_are_those_of_qemu(tmp_path: Path) -> None:
    def play(vm: hv.VM) -> None:
        for move in MOVES:
            vm.mouse.move(*move)
        vm.mouse.click()
        vm.mouse.click("right")
        vm.mouse.down("middle")

    commands = [f"mouse_move {dx} {dy}" for dx, dy, _ in MOVES]
    commands += [f"mouse_button {held}" for held in (1, 0, 2, 0, 4)]
    image = sector(PACKETS.format(setup=""))
    step: Step = (">", commands, play)
    assert here(image, [step]) == under_qemu(image, tmp_path, [step])


def test_the_wheel_is_found_and_told_as_by_qemu(tmp_path: Path) -> None:
    """QEMU's monitor calls up what a packet calls negative, and follows each turn with a packet of nothing."""

    def play(vm: hv.VM) -> None:
        vm.mouse.move(1, 2)
        for turn in TURNS:
            vm.mouse.move(0, 0, wheel=turn)
        vm.mouse.down("middle")

    commands = ["mouse_move 1 2", *(f"mouse_move 0 0 {-turn}" for turn in TURNS), "mouse_button 4"]
    image = sector(PACKETS.format(setup=WHEEL))
    step: Step = (">", commands, play)
    ours = here(image, [step])
    assert ours == under_qemu(image, tmp_path, [step]).replace("08 00 00 00 ", "")
    assert ours.endswith(">28 01 fe 00 08 00 00 01 08 00 00 01 08 00 00 ff 0c ")


def test_the_keyboard_interrupt_leaves_the_mouse_its_bytes() -> None:
    """IRQ 1 of an answer that was polled for comes when the first byte of a packet is there."""
    with hv.boot(sector(PACKETS.format(setup=STALE)), memory="4M") as vm:
        vm.mouse.down("middle")
        assert vm.run(virtual_timeout=1).reason is hv.Reason.DEBUG_EXIT
        assert vm.serial[0].text.endswith(">0c ")
