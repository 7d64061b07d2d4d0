"""A guest with a balloon that checks each byte of what it has: it gives what it is asked for, takes back what it is not
asked for any more, and counts its rounds. What it has given must read as zeros, what it keeps must be what it was.
"""

from __future__ import annotations

from string import Template

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.units import MIB, PAGE_SHIFT
from hypervisor.vm.balloon import GIVE, USE, WANTED, Balloon

AT, NUMBER, ROUND, GIVEN, SILENT = 0x10000, 0x20000, 0x20004, 0x20008, 0x2000C
"""Where its code is, and words: who it is, rounds that it has begun, pages that it has given, whether it gives none."""
FIRST, CACHE, END = MIB, 2 * MIB, 4 * MIB
"""What it needs, and what it can give, from the first page on."""
CACHE_PAGES = END - CACHE >> PAGE_SHIFT

_BALLOON = Template("""
balloon:                        # what the host wants
    mov eax, $wanted
    vmmcall
    cmp dword ptr [$silent], 0
    jne balloon_done
    mov esi, eax
    cmp esi, $pages
    jbe give
    mov esi, $pages
give:                           # or use again, page by page, until as many are given as it wants
    mov ebp, [$given]
    cmp ebp, esi
    je balloon_done
    mov ecx, 1
    ja use
    mov ebx, ebp
    shl ebx, 12
    add ebx, $cache
    mov eax, $give_
    vmmcall
    cmp eax, 1
    jne wrong
    inc dword ptr [$given]
    jmp give
use:
    dec ebp
    mov ebx, ebp
    shl ebx, 12
    add ebx, $cache
    mov eax, $use_
    vmmcall
    cmp eax, 1
    jne wrong
    mov [$given], ebp
    mov edi, ebx
    xor eax, eax
    mov ecx, 1024
    repe scasd
    jne wrong
    mov edi, ebx
    call value
    mov ecx, 1024
    rep stosd
    jmp give
balloon_done:
    ret
""")


def balloon_source(cache: int, pages: int) -> str:
    """The subroutine ``balloon`` of a guest that can give ``pages`` from ``cache`` on. It goes to ``wrong`` where
    something is; ``value`` says what the page at EDI is full of, in EAX. All registers but ESP are used.
    """
    return _BALLOON.substitute(
        wanted=WANTED, give_=GIVE, use_=USE, silent=SILENT, given=GIVEN, cache=cache, pages=pages
    )


CODE = assemble(
    f"""
    mov esp, {AT}
    mov edi, {FIRST}
fill:
    call value
    mov ecx, 1024
    rep stosd
    cmp edi, {END}
    jb fill
again:
    inc dword ptr [{ROUND}]
    call balloon
    mov edi, {FIRST}
check:
    call value
    mov ebx, [{GIVEN}]
    shl ebx, 12
    add ebx, {CACHE}
    cmp edi, {CACHE}
    jb compare
    cmp edi, ebx
    jae compare
    xor eax, eax
compare:
    mov ecx, 1024
    repe scasd
    jne wrong
    cmp edi, {END}
    jb check
    jmp again
wrong:
    hlt
value:
    mov eax, edi
    imul eax, eax, 0x01000193
    xor eax, [{NUMBER}]
    or eax, 1
    ret
"""
    + balloon_source(CACHE, CACHE_PAGES),
    origin=AT,
    mode=32,
).code


def balloon_of(vm: hv.VM) -> Balloon:
    """A machine's balloon."""
    return next(plugin for _, plugin in vm.plugins if isinstance(plugin, Balloon))


def giving(host: hv.Host, number: int, *, answers: bool = True, most: int | None = None, **options: object) -> hv.VM:
    """A VM of 8 MiB with this guest, which has 3 MiB of data and may be asked for 2 MiB of them."""
    balloon = hv.Balloon if most is None else (hv.Balloon, {"most": most})
    vm = host.create_vm(CODE, memory="8M", format="flat", at=AT, mode=32, plugins=[balloon], **options)
    for at, value in ((NUMBER, number << 24), (SILENT, int(not answers))):
        vm.memory.write(at, value.to_bytes(4, "little"))
    return vm


def word(vm: hv.VM, at: int) -> int:
    """A word of a guest's."""
    return int.from_bytes(vm.memory.read(at, 4), "little")


def rounds_more(vms: list[hv.VM], count: int = 1) -> None:
    """Run all, one after the other, until each has begun so many more rounds."""
    for vm in vms:
        wanted = word(vm, ROUND) + count
        while word(vm, ROUND) < wanted:
            result = vm.run(virtual_timeout=0.0005, timeout=60)
            assert result.reason is hv.Reason.VIRTUAL_TIMEOUT, f"{vm.name} has found a wrong byte: {result}"
