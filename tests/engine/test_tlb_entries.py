"""Unicorn's TLB has entries of ours: each is where Unicorn looks for it, once, and says what the guest's TLB says."""

from __future__ import annotations

import ctypes
import struct
from collections import Counter
from typing import Any, NamedTuple

import pytest

import hypervisor as hv
from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.engine.vcpu_tlb import VcpuTlb
from hypervisor.machine.bare import PAGE_TABLES
from tests.core.bare import bare

FAR, ALIASES = 1 << 39, 8  # the memory's 2 MiB are mapped there eight times, one after the other
CODE_PAGES, DATA_PAGES = (0x20000, 16), (0x30000, 128)
LOOKS = 40
EMPTY = (1 << 64) - 1
PROGRAM = f"""
again:
    imul r10, r11
    add r10, 12345
    mov rax, r10
    shr rax, 33
    mov ebx, eax
    and ebx, {DATA_PAGES[1] - 1}
    mov ecx, eax
    and ecx, {(ALIASES - 1) << 7}
    shl rcx, 14
    add rcx, r12
    shl ebx, 12
    mov edx, eax
    shr edx, 10
    and edx, 3
    jz load
    dec edx
    jz store
    dec edx
    jz execute
    test eax, 0xff000
    jnz again
    test eax, 0x100000
    jz forget
    vmmcall
    jmp again
forget:
    test eax, 0x200000
    jz flush
    invlpg [rcx + rbx + {DATA_PAGES[0]}]
    jmp again
load:
    add r13, [rcx + rbx + {CODE_PAGES[0]}]
    jmp again
store:
    inc qword ptr [rcx + rbx + {DATA_PAGES[0] + 8}]
    jmp again
execute:
    and ebx, {(CODE_PAGES[1] - 1) << 12}
    lea rcx, [rcx + rbx + {CODE_PAGES[0]}]
    call rcx
    jmp again
flush:
    mov rax, cr3
    mov cr3, rax
    jmp again
"""


class Entry(NamedTuple):
    """One of Unicorn's: linear addresses for reading, writing and fetching, and where the page is."""

    read: int
    write: int
    code: int
    hpa: int
    addend: int

    @property
    def pages(self) -> set[int]:
        """For which pages it is."""
        return {tag for tag in self[:3] if tag != EMPTY}


def _words(address: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}Q", ctypes.string_at(address, 8 * count))


def _table(address: int, count: int) -> list[Entry]:
    size = 1 << layout.TLB_ENTRY_SHIFT
    return [Entry(*_words(address + size * n, 5)) for n in range(count)]


class Look:
    """All there is at one moment, with the guest standing still; what is wrong is an assertion."""

    def __init__(self, pcpu: Any, tlb: VcpuTlb) -> None:
        self._words = pcpu.words
        self._guest = memoryview(tlb.entries(pcpu.words[b.GUEST_TLB_AGE >> 3])).cast("Q").tolist()
        self.found: Counter[str] = Counter()
        env = pcpu.words[b.ENV >> 3]
        dirty = struct.unpack("<H", ctypes.string_at(env + layout.TLB_DIRTY, 2))[0]
        for index in range(layout.TLB_INDEXES):
            mask, at = _words(env + layout.TLB_FAST + layout.TLB_FAST_SIZE * index, 2)
            slow = env + layout.TLB_SLOW + layout.TLB_SLOW_SIZE * index
            entries = _table(at, (mask >> layout.TLB_ENTRY_SHIFT) + 1)
            victims = _table(slow + layout.TLB_VICTIMS, layout.VICTIMS)
            used = [entry for entry in entries if entry.pages]
            count = len(used) + sum(bool(victim.pages) for victim in victims)
            assert _words(slow + layout.TLB_USED, 1)[0] == count, "entries in use"
            assert not used or dirty >> index & 1, "the next flush would leave them out"
            for place, entry in enumerate(entries):
                assert all(page >> 12 & len(entries) - 1 == place for page in entry.pages), "where it is looked for"
            pages: Counter[int] = Counter()
            for entry in [*used, *victims]:
                self._check(index, entry)
                pages.update(entry.pages)
            assert not pages or max(pages.values()) == 1, "one entry for a page"
            self.found["victims"] += sum(bool(victim.pages) for victim in victims)

    def _check(self, index: int, entry: Entry) -> None:
        memory = self._words[b.RAM >> 3]
        for way, page in enumerate(entry[:3]):
            if page == EMPTY:
                continue
            assert entry.pages == {page} and not page & 0xFFF
            assert (page + entry.addend) % (1 << 64) == memory + entry.hpa, "where it leads"
            rights, gpa = self._known(index, way, page)
            assert rights >> way & 1, "it grants what the guest's TLB does not"
            assert gpa == page % (2 << 20), "the tables say otherwise"
            self.found["read write code".split()[way]] += 1

    def _known(self, index: int, way: int, page: int) -> tuple[int, int]:
        """What the guest's TLB grants, and where it leads."""
        code = way == 2
        number = 1 if index == 1 else (0 if code else index)
        for at in range(0, len(self._guest), 3):
            place, first, second = self._guest[at : at + 3]
            if first == page | number + 1 and (place >= b.GUEST_TLB_DATA) == code:
                return second & 7, second >> 4 << 12
        return 0, -1


@pytest.mark.parametrize("seed", [1, 2])
def test_entries(seed: int) -> None:
    found: Counter[str] = Counter()
    looks = 0
    with bare(PROGRAM, r10=seed, r11=0x5851F42D4C957F2D, r12=FAR) as vm:
        directories = (PAGE_TABLES + 8 * (FAR >> 39), 0x7000 | 7), (0x7000, 0x8000 | 7)
        for at, word in (*directories, *((0x8000 + 8 * n, 0x87) for n in range(ALIASES))):
            vm.memory.write(at, struct.pack("<Q", word))
        for n in range(CODE_PAGES[1]):
            vm.memory.write(CODE_PAGES[0] + 4096 * n, b"\xc3")

        @vm.traps.hypercall()
        def look(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            nonlocal looks
            looks += 1
            found.update(Look(vm.place.pcpu, vcpu.state.tlb).found)
            vcpu.rip += exit.length
            return hv.stop("enough") if looks == LOOKS else hv.HANDLED

        assert vm.run(timeout=60).message == "enough"
    assert min(found[kind] for kind in ("read", "write", "code", "victims")) > LOOKS, found
