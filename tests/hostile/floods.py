"""Guests that make the host translate without end, and what that takes of its memory.

``python -m tests.hostile.floods KIND [CODE_CACHE [TIMES]]`` runs until its translated code has been thrown away so
often and prints the resident memory of this process in MiB: before the guest runs, at most, and after the VM and the
host have been closed.
"""

from __future__ import annotations

import ctypes
import gc
import json
import struct
import sys

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.machine.bare import PAGE_TABLES, prepare

_CODE, _STACK, _TABLES, _FRAME = 0x10000, 0x90000, 0x20000, 0x30000
_SLICE_S, _TLB_NS = 2e-5, 30_000_000

KINDS = {
    # one instruction rewritten and run again
    "smc": "again: inc dword ptr [target + 1]; target: mov eax, 0; jmp again",
    # a megabyte of code, each byte a block, and all of it written again
    "smc_fill": """
        outer: mov edi, 0x100000; mov ecx, 0x100000; mov al, 0xc3; rep stosb
        mov ebx, 0x100000
        again: call rbx; inc ebx; cmp ebx, 0x200000; jb again
        jmp outer""",
    # blocks that begin at each byte of long straight code
    "nops": """
        mov edi, 0x100000; mov ecx, 0x100000; mov al, 0x90; rep stosb
        mov ebx, 0x100000
        again: call rbx; inc ebx; jmp again""",
    # blocks in all of its memory
    "every": """
        outer: mov ebx, 0x100000
        again: call rbx; add ebx, 129; cmp ebx, 0x2000000; jb again
        jmp outer""",
    # the same code at ever new linear addresses
    "aliases": """
        mov edi, 0x30000; mov ecx, 4096; mov al, 0xc3; rep stosb
        movabs rbx, 0x8000000000
        again: call rbx; add rbx, 4097; jmp again""",
    # code that stores into its own page often enough to have a map of its bytes made, in every page
    "bitmaps": """
        mov ebx, 0x100000
        fill: lea rsi, [piece]; mov rdi, rbx; mov ecx, 32; rep movsb
        add ebx, 4096; cmp ebx, 0x2000000; jb fill
        outer: mov ebx, 0x100000
        again: call rbx; add ebx, 4096; cmp ebx, 0x2000000; jb again
        jmp outer
        piece: mov ecx, 12; more: inc dword ptr [rbx + 64]; loop more; ret""",
    # more and more pages in use between two flushes of the TLB
    "tlb": """
        mov ecx, 256
        outer: add ecx, ecx; cmp ecx, 0x80000; jb small; mov ecx, 0x80000
        small: mov edx, ecx; movabs rbx, 0x8000000000
        again: mov al, [rbx]; add rbx, 4096; dec edx; jnz again
        mov rax, cr3; mov cr3, rax
        jmp outer""",
}


def resident() -> float:
    """MiB of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / (1 << 20)


def _fill_tables(vm: hv.VM) -> None:
    """Three more levels of tables, each of 512 entries that are the same: the frame is everywhere."""
    vm.memory.write(PAGE_TABLES + 8, struct.pack("<Q", _TABLES | 7) * 255)
    for level in range(3):
        following = _TABLES + 0x1000 * (level + 1) if level < 2 else _FRAME
        vm.memory.write(_TABLES + 0x1000 * level, struct.pack("<Q", following | 7) * 512)


def flood(kind: str, code_cache: str, times: int) -> dict[str, float]:
    """Run a kind and say what it took; the kind "tlb", which has little code, for a fixed time."""
    code = assemble(KINDS[kind], origin=_CODE, mode=64).code
    with hv.Host("32M", 1, code_cache=code_cache) as host:
        (pcpu,) = host.pcpus
        tcg = ctypes.c_uint64.from_address(pcpu.words[b.UC >> 3] + layout.UC_TCG_CONTEXT).value
        after = ctypes.c_uint64.from_address(tcg + layout.TCG_CODE_NEXT)
        with hv.VM(host, hv.MachineConfig(memory="32M", name=kind)) as vm:
            prepare(vm, code, 64, _CODE, _STACK)
            _fill_tables(vm)
            vm.memory.write(0x100000, b"\xc3" * 0x1F00000)  # all of its memory has been touched before
            vm.run(virtual_timeout=1e-6)
            figures = {"before": resident()}
            peak, emptied, last = 0.0, 0, 0
            while emptied < times and not (kind == "tlb" and vm.clock.now_ns > _TLB_NS):
                result = vm.run(virtual_timeout=_SLICE_S)
                assert result.reason is hv.Reason.VIRTUAL_TIMEOUT, result
                peak = max(peak, resident())
                emptied += after.value < last
                last = after.value
            figures["peak"] = peak
        figures["closed"] = resident() + 32  # its memory has gone back
    gc.collect()
    figures["host_closed"] = resident() + 32
    return {name: round(value, 1) for name, value in figures.items()}


def main() -> None:
    """As the module says."""
    kind, code_cache, times = (*sys.argv[1:], *("smc", "64M", "3")[len(sys.argv) - 1 :])
    print(json.dumps(flood(kind, code_cache, int(times))))


if __name__ == "__main__":
    main()
