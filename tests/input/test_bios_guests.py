"""Guests that chain the BIOS's interrupts and call its services: the same boot sector here and under SeaBIOS."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

import hypervisor as hv
from tests.input.machines import SECONDS, Step, here, sector, under_qemu

CHAINED_TIMER = """
    mov ax, [0x20]
    mov [old], ax
    mov ax, [0x22]
    mov [old + 2], ax
    mov word ptr [0x20], int8
    mov word ptr [0x22], 0
    mov word ptr [0x70], int1c
    mov word ptr [0x72], 0
    mov bx, [0x46c]
    sti
again: hlt
    cmp word ptr [count], 20
    jb again
    cli
    mov ax, [count]
    call hex16
    mov ax, [user]
    call hex16
    mov ax, [0x46c]
    sub ax, bx
    call hex16
    mov ax, [nested]
    call hex16
    jmp quit
int8:
    inc word ptr [count]
    pushf
    .byte 0xff, 0x1e
    .word old
    iret
int1c:
    inc word ptr [user]
    mov al, 0x0b
    out 0x20, al
    in al, 0x20
    or [nested], al
    mov ax, 0x1234
    mov dx, ax
    iret
old: .dword 0
count: .word 0
user: .word 0
nested: .word 0
"""
"""Counts 20 ticks in INT 8 and INT 1Ch, which finds the timer still in service, and spoils AX and DX."""

HOOKED_KEYBOARD = """
    mov ax, [0x24]
    mov [old], ax
    mov ax, [0x26]
    mov [old + 2], ax
    mov word ptr [0x24], int9
    mov word ptr [0x26], 0
    mov al, '>'
    call put
    sti
next: mov ah, 0
    int 0x16
    call hex16
    cmp ah, 1
    jne next
    mov al, [count]
    call hex
    jmp quit
int9:
    inc byte ptr [count]
    push ax
    in al, 0x60
    cmp al, 0x2d
    je swallow
    cmp al, 0xad
    je swallow
    pop ax
    .byte 0xff, 0x2e
    .word old
swallow:
    mov al, 0x20
    out 0x20, al
    pop ax
    iret
old: .dword 0
count: .word 0
"""
"""Lets the BIOS see every key but x."""

E820 = """
    mov di, 0x600
    xor ebx, ebx
next: mov eax, 0xe820
    mov edx, 0x534d4150
    mov ecx, 20
    int 0x15
    jc failed
    cmp eax, 0x534d4150
    jne failed
    mov ax, cx
    call hex
    mov si, di
    mov bp, 10
field: mov ax, [si]
    call hex16
    add si, 2
    dec bp
    jnz field
    mov al, 10
    call put
    test ebx, ebx
    jnz next
    jmp quit
failed: mov al, '!'
    call put
    jmp quit
"""

SERVICES = {
    "APM": (
        "mov ax, 0x5300; xor bx, bx; int 0x15; pushf; call hex16; mov ax, bx; call hex16; pop ax; and al, 1; call hex"
    ),
    "APM version": "mov ax, 0x530e; xor bx, bx; mov cx, 0x102; int 0x15; call hex16",
    "configuration": (
        "mov ah, 0xc0; int 0x15; pushf; mov al, ah; call hex; pop ax; and al, 1; call hex; "
        "mov ax, es:[bx]; call hex16; mov al, es:[bx + 2]; call hex"
    ),
    "INT 12h": "int 0x12; call hex16",
    "A20": (
        "mov ax, 0x2402; int 0x15; call hex16; mov ax, 0x2400; int 0x15; mov ax, 0x2402; int 0x15; "
        "call hex16; mov ax, 0x2401; int 0x15; mov ax, 0x2402; int 0x15; call hex16; mov ax, 0x2403; "
        "int 0x15; mov al, bl; call hex"
    ),
    "unserved": "mov ax, 0x7777; stc; int 0x15; pushf; mov al, ah; call hex; pop ax; and al, 1; call hex",
    "ring": (
        "mov ah, 5; mov cx, 0x1e61; int 0x16; call hex; mov ah, 0; int 0x16; call hex16; mov ah, 5; "
        "mov cx, 0x2c7a; int 0x16; mov si, [0x41a]; mov ax, [si + 0x400]; call hex16; mov ax, [0x41c]; "
        "sub ax, [0x41a]; call hex16"
    ),
    "keyboard": (
        "mov ah, 9; int 0x16; and al, 0x30; call hex; mov ah, 0x0a; int 0x16; mov ax, bx; call hex16; "
        "mov ah, 0x12; int 0x16; call hex16"
    ),
    "RTC": ("mov ah, 2; int 0x1a; mov al, ch; shr al, 6; call hex; mov ah, 4; int 0x1a; mov al, ch; call hex"),
    "serial": (
        "mov ax, 0x00e3; xor dx, dx; int 0x14; call hex16; mov ah, 3; int 0x14; call hex16; "
        "mov ax, 0x0141; int 0x14; mov al, ah; call hex"
    ),
    "model": "mov ax, 0xffff; mov es, ax; mov al, es:[0x0e]; call hex",
}


@pytest.mark.parametrize("guest", ["timer", "keyboard"])
def test_chained_interrupts_go_as_under_seabios(guest: str, tmp_path: Path) -> None:
    image = sector(CHAINED_TIMER if guest == "timer" else HOOKED_KEYBOARD)
    keys = ["a", "x", "b", "shift-x", "f1", "x", "esc"]
    step: Step = (
        ">",
        [f"sendkey {key} 30" for key in keys],
        lambda vm: [vm.keyboard.press(*key.split("-")) for key in keys],
    )
    steps = [step] if guest == "keyboard" else []
    ours, theirs = here(image, steps), under_qemu(image, tmp_path, steps)
    assert ours == theirs
    assert ours == ("0014 0014 0014 0001 " if guest == "timer" else ">1e61 3062 3b00 011b 0f ")


@pytest.mark.parametrize("name", SERVICES)
def test_services_answer_as_seabios_does(name: str, tmp_path: Path) -> None:
    image = sector(f"{SERVICES[name]}; jmp quit")
    assert here(image) == under_qemu(image, tmp_path)


def test_the_memory_map_has_the_form_of_seabios_and_its_memory(tmp_path: Path) -> None:
    """Entries of 20 bytes in ascending order, ending with EBX 0; QEMU's reserves other places at the top of memory."""

    def read(text: str) -> list[tuple[int, int, int]]:
        entries = []
        for line in text.splitlines():
            size, *words = line.split()
            assert size == "14"
            number = [int(word, 16) for word in words]
            base, length = (sum(word << 16 * at for at, word in enumerate(number[i : i + 4])) for i in (0, 4))
            entries.append((base, length, number[8] | number[9] << 16))
        return entries

    image = sector(E820)
    ours, theirs = read(here(image)), read(under_qemu(image, tmp_path))
    for entries in (ours, theirs):
        assert entries == sorted(entries)
        assert all(a + b <= c for (a, b, _), (c, _, _) in pairwise(entries))
    assert ours[:3] == theirs[:3]  # conventional memory, extended BIOS data area, ROM
    assert [kind for *_, kind in ours][:4] == [kind for *_, kind in theirs][:4] == [1, 2, 2, 1]


@pytest.mark.parametrize("way", ["real mode", "16-bit protected mode", "32-bit protected mode"])
def test_apm_switches_off(way: str) -> None:
    calls = {
        "real mode": "mov ax, 0x5301; xor bx, bx; int 0x15; mov ax, 0x5307; mov bx, 1; mov cx, 3; int 0x15; jmp quit",
        "16-bit protected mode": _protected(0x5302, "mov [0x700], bx", "call far16"),
        "32-bit protected mode": _protected(0x5303, "mov [0x700], ebx", "call far32"),
    }
    with hv.boot(sector(calls[way]), memory="16M") as vm:
        result = vm.run(timeout=SECONDS)
        assert result.reason is hv.Reason.POWERED_OFF, result


def _protected(connect: int, keep: str, call: str) -> str:
    """Connect, enter protected mode with the ROM's segment as the BIOS names it, and call its entry."""
    wide = call == "call far32"
    far = ".byte 0xff, 0x1d\n.dword 0x700" if wide else ".byte 0xff, 0x1e\n.word 0x700"
    return f"""
    mov ax, {connect}
    xor bx, bx
    int 0x15
    jc quit
    {keep}
    mov word ptr [{0x704 if wide else 0x702}], 24
    lgdt [table]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp 8:entered
    {".code32" if wide else ""}
entered:
    mov ax, 16
    mov ds, ax
    mov ss, ax
    mov ax, 0x5307
    mov bx, 1
    mov cx, 3
    {far}
    jmp $
gdt: .qword 0, {0x00CF9B000000FFFF if wide else 0x00009B000000FFFF}, 0x00CF93000000FFFF
    .qword {0x00409B0F0000FFFF if wide else 0x00009B0F0000FFFF}
table: .word 31
    .dword gdt
"""


POLLS = {
    "ticks": "mov ah, 0; int 0x1a; mov bx, dx; again: mov ah, 0; int 0x1a; sub dx, bx; cmp dx, 10; jb again; jmp quit",
    "keys": "mov al, '>'; call put; again: mov ah, 1; int 0x16; jz again; mov ah, 0; int 0x16; cmp al, 'q'; jne again; "
    "jmp quit",
}


@pytest.mark.parametrize("what", POLLS)
def test_a_loop_that_asks_the_bios_takes_a_poll_of_virtual_time_each(what: str) -> None:
    """And so few exits; at the speed of the loop's own code it would be millions."""
    with hv.boot(sector(f"sti; {POLLS[what]}"), memory="4M") as vm:
        vm.keyboard.type("a word q")
        result = vm.run(timeout=SECONDS)
        assert result.reason is hv.Reason.DEBUG_EXIT
        assert 0.1 < result.virtual_s < 0.7
        assert result.exits["hypercall"] < result.virtual_s / 40e-6
