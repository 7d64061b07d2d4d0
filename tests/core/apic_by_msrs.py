"""The programs of `tests.core.apic_guest` in x2APIC mode: RDMSR and WRMSR in place of loads and stores."""

from __future__ import annotations

import re

from hypervisor.arch import apic_registers as r

STACKS, DATA = 0x1A0000, 0x190000
"""As in `tests.core.apic_guest`."""
DESTINATION = 24
"""What a store to ICR_HIGH would have said, in x2APIC mode."""
_FIRST = r.X2APIC_MSRS.start
_ENTER = "    mov ecx, 0x1b\n    rdmsr\n    or eax, 0xc00\n    wrmsr\n"
_SELF_IPI = f"""
    call random
    test eax, 0x300
    jnz not_to_itself
    and eax, 0x3f
    add eax, 0x30
    mov ecx, {_FIRST + (r.SELF_IPI >> 4)}
    xor edx, edx
    wrmsr
not_to_itself:
"""


def _load(register: str, number: str) -> str:
    lines = ["push ecx", "push edx", f"mov ecx, {number}", "rdmsr", "pop edx", "pop ecx"]
    return "\n".join(lines if register == "eax" else ["push eax", *lines, f"mov {register}, eax", "pop eax"])


def _store(offset: int, value: str) -> str:
    if offset in (r.LDR, r.DFR):
        return "nop"
    if offset == r.ICR_HIGH:  # as many bits as there are, so that of FFh everybody becomes
        return f"push eax\nmov eax, {value}\nsar eax, 24\nmov [ebp + {DESTINATION}], eax\npop eax"
    value = "0" if offset == r.EOI else value
    upper = f"and eax, {r.ICR_WRITABLE}\nmov edx, [ebp + {DESTINATION}]" if offset == r.ICR_LOW else "xor edx, edx"
    number = _FIRST + (offset >> 4)
    return (
        f"push eax\npush ecx\npush edx\nmov eax, {value}\nmov ecx, {number}\n{upper}\nwrmsr\npop edx\npop ecx\npop eax"
    )


def by_msrs(source: str, by_page: list[int]) -> str:
    """A program that does in x2APIC mode what ``source`` does with the page."""
    begin = f"go:\nmov eax, 16\nmov ds, ax\nmov ss, ax\nmov esp, {STACKS + 0x1000:#x}\nmov ebp, {DATA:#x}\n{_ENTER}"
    source = source.replace("go:", begin, 1).replace("each:\n", "each:\n" + _ENTER, 1)
    source = source.replace("mov ebx, [edi + 0x20]\n    shr ebx, 24", "mov ecx, 0x802\n    rdmsr\n    mov ebx, eax")
    source = re.sub(r"mov (?:dword ptr )?\[edi \+ (0x\w+)\], (.*)", lambda m: _store(int(m[1], 16), m[2]), source)
    source = re.sub(r"mov (\w+), \[edi \+ (0x\w+)\]", lambda m: _load(m[1], str(_FIRST + (int(m[2], 16) >> 4))), source)
    readable = [_FIRST + (offset >> 4) for offset in (*by_page, r.ICR_LOW) if offset in r.X2APIC_READABLE]
    source = source.replace("mov eax, [edi + edx]", "mov ecx, edx\n    rdmsr\n    add eax, edx")
    source = source.replace(f"mov ecx, {len(by_page)}\n", f"mov ecx, {len(readable)}\n")
    source = re.sub(r"readable:\n.*", f"readable:\n    .dword {', '.join(map(str, readable))}", source)
    assert "[edi" not in source
    return source.replace("\ntime:\n", "\ntime:\n" + _SELF_IPI, 1)
