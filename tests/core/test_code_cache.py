"""The room for translated code: an option of the host, and nothing that a guest can tell."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.engine import block as b
from hypervisor.engine.instance.room import SHARING
from tests.meanwhile import again_and_again, kick

_CODE = 0x10000
_GUESTS = {
    # Code that overwrites itself, with exits in it. The block that is left in the middle is counted twice, always.
    "smc": """
        again: inc dword ptr [target + 1]; mov edx, 5
        target: mov eax, 0; test al, 63; jnz again; xor ecx, ecx; cpuid; jmp again""",
    # The same by an instruction that overwrites itself, so that it is translated again both times
    "self": """
        again: mov dword ptr [again + 6], 0x12345678; inc esi; test esi, 63; jnz again
        xor ecx, ecx; xor eax, eax; cpuid; rdtsc; add edi, eax; rol edi, 1; jmp again""",
    # New code all the time, with interrupts from the PIT
    "nops": """
        mov edi, 0x40000; mov ecx, 0x10000; mov al, 0x90; rep stosb
        mov word ptr [edi], 0xc3
        again: mov ebx, 0x40000
        more: call ebx; inc dword ptr [0x80000]; inc ebx; cmp ebx, 0x50000; jb more
        jmp again""",
}
_TIMER = """
    mov esp, 0x9000
    lidt [table]
    mov edi, 0x20000 + 0x20 * 8
    mov eax, handler
    mov [edi], ax
    mov word ptr [edi + 2], 8
    mov word ptr [edi + 4], 0x8e00
    mov word ptr [edi + 6], 1
    mov al, 0x11; out 0x20, al; mov al, 0x20; out 0x21, al; mov al, 4; out 0x21, al; mov al, 1; out 0x21, al
    mov al, 0xfe; out 0x21, al
    mov al, 0x34; out 0x43, al; mov al, 0x80; out 0x40, al; mov al, 0; out 0x40, al
    sti
    jmp start
    handler: push eax; inc dword ptr [0x80004]; mov al, 0x20; out 0x20, al; pop eax; iretd
    table: .word 0x7ff
    .dword 0x20000
    start:
"""


def _end(vm: hv.VM, virtual_s: float) -> dict[str, Any]:
    """What the guest and its host can tell of a run."""
    result = vm.run(virtual_timeout=virtual_s, timeout=120)
    assert result.reason is hv.Reason.VIRTUAL_TIMEOUT, result
    names = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rip", "rflags")
    registers = {name: getattr(result, name) for name in names}
    memory = hashlib.sha256(vm.memory.read(0, vm.memory.size)).hexdigest()
    return {"exits": dict(result.exits), "time": vm.clock.now_ns, "registers": registers, "memory": memory}


def _run(kind: str, code_cache: str, virtual_s: float) -> tuple[dict[str, Any], int]:
    code = assemble(_TIMER + _GUESTS[kind], origin=_CODE, mode=32).code
    with hv.Host("1M", 1, code_cache=code_cache) as host:
        with host.create_vm(code, memory="1M", format="flat", at=_CODE, mode=32) as vm:
            return _end(vm, virtual_s), vm.host_events["code_cache_emptied"]


@pytest.mark.parametrize("kind", _GUESTS)
def test_a_guest_cannot_tell_when_its_code_is_thrown_away(kind: str) -> None:
    """Exits, time, registers and memory are the same with the least room and with so much that it is never full."""
    virtual_s = {"smc": 0.001, "self": 0.003, "nops": 0.01}[kind]
    small, times = _run(kind, "1M", virtual_s)
    large, none = _run(kind, "1G", virtual_s)
    assert times > 2 and none == 0
    assert small["exits"].get("interrupt", 0) > 3
    assert small == large


def test_a_guest_cannot_tell_that_it_was_kicked() -> None:
    """Not even where an instruction that has overwritten its own block is about to be executed again."""
    code = assemble(_GUESTS["smc"], origin=_CODE, mode=32).code
    ends = []
    for kicked in (False, True):
        with hv.Host("1M", 1) as host:
            with host.create_vm(code, memory="1M", format="flat", at=_CODE, mode=32) as vm:
                over = threading.Event()

                def kick(host: hv.Host = host, over: threading.Event = over) -> None:
                    while not over.is_set():
                        host.pcpus[0].kick()
                        time.sleep(0)

                thread = threading.Thread(target=kick)
                if kicked:
                    thread.start()
                ends.append(_end(vm, 0.0005))
                over.set()
                if kicked:
                    thread.join()
    assert ends[0] == ends[1]


def test_stepping_where_the_code_is_thrown_away() -> None:
    """A step is one instruction, whether or not it finds room for its code."""
    code = assemble("again: inc eax; inc ebx; jmp again", origin=_CODE, mode=32).code
    with hv.Host("1M", 1) as host:
        with host.create_vm(code, memory="1M", format="flat", at=_CODE, mode=32) as vm:
            for n in range(30):
                host.pcpus[0].words[b.CODE_FULL >> 3] = 1
                assert vm.vcpu.step() == 1
                assert vm.vcpu.rip == _CODE + (1, 2, 0)[n % 3]


@pytest.mark.parametrize(("given", "words"), [
    ("1K", "1M to 1G"), ("2G", "1M to 1G"), (0, "greater than zero"), ("much", "not a size"), (1.5, "not a size"),
    (None, "not a size"),
])  # fmt: skip
def test_what_is_no_room(given: Any, words: str) -> None:
    with pytest.raises(hv.ConfigError, match=words):
        hv.Host("1M", 1, code_cache=given)


def test_the_least_room_and_an_odd_one() -> None:
    """Sizes that are not whole pages are as good."""
    for room in ("1M", (1 << 20) + 1, (1 << 20) + 4097):
        with hv.Host("1M", 1, code_cache=room) as host, host.create_vm("hello", memory="1M") as vm:
            assert vm.run(timeout=20).reason is hv.Reason.POWERED_OFF


_ROUNDS = """
    mov edi, 0x40000; mov ecx, 1600; mov al, 0xc3; rep stosb
    again: mov ebx, 0x40000
    more: call ebx; inc ebx; cmp ebx, edi; jb more
    jmp again"""
"""Calls a RET at each of so many addresses, again and again: more than half of a MiB of translated code."""


def _by_turns(host: hv.Host, count: int) -> tuple[int, int]:
    """Let so many VMs run by turns on a host's pCPU: bytes that were translated, and how often all was thrown away."""
    code, memory = assemble(_ROUNDS, origin=_CODE, mode=32).code, host.pcpus[0].memory
    before = memory.translated_bytes
    vms = [host.create_vm(code, memory="1M", format="flat", at=_CODE, mode=32) for _ in range(count)]
    for _ in range(3):
        for vm in vms:
            assert vm.run(virtual_timeout=0.0001, timeout=60).reason is hv.Reason.VIRTUAL_TIMEOUT
    emptied = sum(vm.host_events["code_cache_emptied"] for vm in vms)
    translated = memory.translated_bytes - before
    for vm in vms:
        vm.close()
    return translated, emptied


def test_vms_that_share_a_pcpu_do_not_throw_away_each_others_code() -> None:
    """There is as much room for the second, third and fourth one, and no more for one alone behind them."""
    with hv.Host("8M", 1, code_cache="1M") as host:
        alone, emptied = _by_turns(host, 1)
        assert emptied == 0 and 0.5 < alone / (1 << 20) < 0.75
        for count in (2, SHARING):
            translated, emptied = _by_turns(host, count)
            assert emptied == 0 and abs(translated / (count * alone) - 1) < 0.01
        translated, emptied = _by_turns(host, SHARING + 3)
        assert emptied > 0 and translated > 1.5 * (SHARING + 3) * alone
    counts = []
    for shared in (False, True):
        with hv.Host("8M", 1, code_cache="1M") as host:
            if shared:
                _by_turns(host, SHARING)
            code = assemble(_TIMER + _GUESTS["nops"], origin=_CODE, mode=32).code
            with host.create_vm(code, memory="1M", format="flat", at=_CODE, mode=32) as vm:
                _end(vm, 0.01)
                counts.append(vm.host_events["code_cache_emptied"])
    assert counts[0] == counts[1] > 2


_COUNTED, _CALLS = 1600, 60
_COUNTS = f"""
    mov edi, 0x40000; mov ecx, {_COUNTED}; mov ax, 0xc346; rep stosw
    mov edx, {_CALLS}; xor esi, esi
    again: mov ebx, 0x40000
    more: call ebx; add ebx, 2; cmp ebx, edi; jb more
    dec edx; jnz again; cli; hlt"""
"""Calls so many pieces of code that add one to ESI, so many times each, and halts."""


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_room_that_is_widened_and_emptied_beside_neighbours_loses_no_code(clock: str) -> None:
    """All at once on one pCPU that is kicked: each piece is executed as often as alone, and none of another's is."""
    code = assemble(_COUNTS, origin=_CODE, mode=32).code
    options: dict[str, Any] = {"memory": "1M", "format": "flat", "at": _CODE, "mode": 32, "clock": clock}
    with hv.Host("16M", 1, code_cache="1M", scheduler=hv.RoundRobin()) as host:
        vms = [host.create_vm(code, **options) for _ in range(SHARING + 3)]
        with again_and_again(lambda: kick(vms[0]), 0.001, random.Random(5)):
            for vm in vms:
                vm.start()
            for vm in vms:
                assert vm.wait(timeout=60).reason is hv.Reason.HALTED
        assert [vm.vcpu.esi for vm in vms] == [_COUNTED * _CALLS] * len(vms)
        assert clock == "wall" or len({vm.clock.now_ns for vm in vms}) == 1
        assert sum(vm.host_events["code_cache_emptied"] for vm in vms) > 0, "there was room for all"
