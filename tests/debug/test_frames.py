"""Stack traces by the call frames of an ELF file: what gcc optimises into registers is found as well as with RBP."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.symbols.call_frames import FrameTable, Registers

SOURCE = """
#define APART __attribute__((noinline, noclone))
struct item { struct item *next; int key; };
int found;
APART int find(struct item *at, int key)
{
    int place = 0;
    for (; at; at = at->next, place++)
        if (at->key == key)
            return place;
    return -1;
}
APART int lookup(struct item *list, int key) { return find(list, key) * 3 + 1; }
APART void serve(struct item *list)
{
    char room[100];
    __asm__ volatile("" :: "r"(room) : "memory");
    found = lookup(list, 9);
    found++;
}
void _start(void)
{
    __asm__ volatile(LOAD_STACK);
    struct item broken = {(void *)0x7f000000, 4};
    UNMAP;
    serve(&broken);
    found = 7;
    for (;;) ;
}
"""
STACK = {32: '"mov $0x90000, %esp"', 64: '"mov $0x90000, %rsp"'}
# The page at 7f000000h is not mapped: the loader's tables have pages of 2 MiB; in 32 bits there is one of 4 MiB.
UNMAP = {
    64: '__asm__ volatile("mov %%cr3, %%rax; mov (%%rax), %%rax; and $-4096, %%rax; mov (%%rax), %%rax;'
    ' and $-4096, %%rax; movq $0, 0x3f8*8(%%rax)"::: "rax", "memory")',
    32: "*(int *)0x10000 = 0x83;"
    ' __asm__ volatile("mov %%cr4, %%eax; or $0x10, %%eax; mov %%eax, %%cr4; mov %0, %%cr3; mov %%cr0, %%eax;'
    ' or $0x80000000, %%eax; mov %%eax, %%cr0":: "r"(0x10000) : "eax", "memory")',
}
NAMES = ["find", "lookup", "serve", "_start"]


def built(folder: Path, bits: int, *options: str) -> Path:
    (folder / "main.c").write_text(SOURCE.replace("LOAD_STACK", STACK[bits]).replace("UNMAP", UNMAP[bits]))
    command = [
        "gcc",
        f"-m{bits}",
        "-ffreestanding",
        "-nostdlib",
        "-static",
        "-fno-pic",
        "-no-pie",
        "-fcf-protection=none",
    ]
    command += ["-fno-stack-protector", "-Wl,-n,-Ttext=0x100000,--build-id=none", *options, "-o", "main.elf", "main.c"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "main.elf"


def trace(kernel: Path) -> tuple[list[str], bool]:
    """The functions of the stack trace, and whether one of them was guessed."""
    with hv.boot(kernel, memory="8M") as vm:
        crash = vm.run(timeout=60).crash
    assert crash is not None and crash.chain[0].vector == 14, crash
    return [frame.symbol.partition("+")[0] for frame in crash.stack], any(frame.guessed for frame in crash.stack)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(
    "options",
    [
        "-O2 -fomit-frame-pointer",
        "-O1 -g -fno-asynchronous-unwind-tables -fomit-frame-pointer",
        "-O2 -fno-omit-frame-pointer",
    ],
    ids=["eh_frame", "debug_frame", "frame pointers"],
)
def test_every_caller_is_found(bits: int, options: str, tmp_path: Path) -> None:
    assert trace(built(tmp_path, bits, *options.split())) == (NAMES, False)


def test_without_tables_and_frame_pointers_callers_are_guessed(tmp_path: Path) -> None:
    names, guessed = trace(built(tmp_path, 64, "-O2", "-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"))
    assert guessed and names == NAMES


def test_damaged_tables_cost_only_the_frames(tmp_path: Path) -> None:
    rng = random.Random(6)
    whole = built(tmp_path, 64, "-O2").read_bytes()
    good = FrameTable(lambda: whole).caller(Registers(0x100000, 0x8000, 0), 0x100000, lambda at: 0x1234, 64)
    assert good == Registers(0x1234, 0x8008, 0)
    table = FrameTable(lambda: whole)
    assert table.caller(Registers(0x100000, 0x8000, 0), 0x100000, lambda at: 0x1234, 32) is None  # 64-bit code's
    assert table.caller(Registers(0x200000, 0x8000, 0), 0x200000, lambda at: 0x1234, 64) is None  # behind all code
    same = 0
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(rng.choice((4, 40, 400))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        table = FrameTable(lambda data=bytes(data): data)  # type: ignore[misc]
        same += table.caller(Registers(0x100000, 0x8000, 0), 0x100000, lambda at: 0x1234, 64) == good
    assert 10 < same < 100
