"""The APICs under fire: random registers, storms of interrupts to oneself, timers without pause, a page that moves."""

from __future__ import annotations

from functools import partial

from tests.hostile.asm import asm
from tests.hostile.cases import add
from tests.hostile.machines import HANDLER, machine
from tests.hostile.scenes import Scene

_ENDS = ("crashed", "halted", "virtual-timeout", "idle", "stopped")
LAPIC, IOAPIC, PM = 0xFEE00000, 0xFEC00000, 0x600
_RETURN = bytes.fromhex("c705b000e0fe00000000cf")  # mov dword ptr [0fee000b0h], 0; iretd
_RANDOM = "imul eax, eax, 1103515245; add eax, 12345; mov ebx, eax; shr ebx, 12"
"""EAX = the next number of a simple generator, EBX = bits of it that are more random than the low ones."""

_LOOPS = {
    "registers": f"{_RANDOM}; and ebx, 0xff0; mov [ebx + {LAPIC}], eax; mov ecx, [ebx + {LAPIC}]",
    "odd_registers": f"{_RANDOM}; and ebx, 0xffb; mov [ebx + {LAPIC}], al; mov cx, [ebx + {LAPIC}]",
    "pins": f"{_RANDOM}; and ebx, 0x3f; mov [{IOAPIC}], ebx; mov [{IOAPIC} + 16], eax",
    "commands": f"{_RANDOM}; mov [{LAPIC} + 0x310], eax; mov [{LAPIC} + 0x300], ebx",
    "to_itself": f"{_RANDOM}; movzx ebx, bl; or ebx, 0x40000; mov [{LAPIC} + 0x300], ebx",
    "nmi_to_itself": f"mov dword ptr [{LAPIC} + 0x300], 0x80400",
    "init_to_itself": f"mov dword ptr [{LAPIC} + 0x300], 0x80500; mov dword ptr [{LAPIC} + 0x300], 0x80601",
    "timer": f"mov dword ptr [{LAPIC} + 0x320], 0x20040; mov dword ptr [{LAPIC} + 0x3e0], 0xb; "
    f"mov dword ptr [{LAPIC} + 0x380], 1",
    "moving": f"{_RANDOM}; mov ecx, 0x1b; push eax; mov eax, ebx; and eax, 0xfff800; or eax, 0x800; xor edx, edx; "
    f"wrmsr; pop eax; mov [ebx], eax",
    "off_and_on": f"mov ecx, 0x1b; rdmsr; xor eax, 0x800; wrmsr; mov [{LAPIC} + 0x300], eax",
    "power": f"{_RANDOM}; mov edx, ebx; and edx, 0xf; cmp edx, 5; jbe again; add edx, {PM}; out dx, al; in eax, dx; "
    "mov al, 0xf1; out 0xb2, al",
}


def _attack(loop: str, open_: bool, handled: bool) -> Scene:
    """A loop in flat protected mode, with an APIC that is on."""
    start = f"mov dword ptr [{LAPIC} + 0xf0], 0x1ff; {'sti' if open_ else 'cli'}"
    code = asm(f"{start}; mov eax, 7; again: {_LOOPS[loop]}; jmp again", "protected")
    scene = machine("protected", code, writes=((HANDLER, _RETURN),) if handled else ())
    scene.virtual_s = 5e-3
    return scene


for _loop in _LOOPS:
    for _open, _handled in ((False, False), (True, False), (True, True)):
        _name = f"apic_{_loop}{'_open' * _open}{'_handled' * _handled}"
        add(_name, partial(_attack, _loop, _open, _handled), *_ENDS)
