"""``vm.reset()`` wherever it is called: between runs at once, while the VM runs before the guest's next block."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

import hypervisor as hv
from tests.core.smp import machine
from tests.sectors import boot_sector

CLOCKS = pytest.mark.parametrize("clock", ["virtual", "wall"])

# What each instruction does before it, what its trap is, and that the guest comes to life again and again.
COUNTED = """
    cli
    xor ax, ax
    mov ds, ax
    inc word ptr [0x600]            # lives
    cmp word ptr [0x600], 3
    jae enough
    mov sp, 0x7c00
    mov dx, 0x300
    {exit}
    inc word ptr [0x602]            # what comes after the reset was asked for
spin:
    jmp spin
enough:
    mov dx, 0x604
    mov ax, 0x2000
    out dx, ax
"""
EXITS = {
    "cpuid": "mov eax, 0x40000000; cpuid",
    "hypercall": "vmmcall",
    "port_out": "out dx, al",
    "port_in": "in al, dx",
    "rdmsr": "mov ecx, 0x40000000; rdmsr",
    "int_n": "int 0x60",
    "hlt": "hlt",
}


def _register(vm: hv.VM, kind: str, handler: Callable[..., Any]) -> None:
    keys: dict[str, Any] = {
        "cpuid": {"leaf": 0x40000000}, "rdmsr": {"msr": 0x40000000}, "int_n": {"vector": 0x60},
    }  # fmt: skip
    register = getattr(vm.traps, kind)
    if kind.startswith("port"):
        register(range(0x300, 0x301))(handler)
    else:
        register(**keys.get(kind, {}))(handler)


@CLOCKS
@pytest.mark.parametrize("verdict", ["handled", "pass", "retry"])
@pytest.mark.parametrize("kind", EXITS)
def test_reset_in_a_handler(kind: str, verdict: str, clock: str) -> None:
    with hv.boot(boot_sector(COUNTED.format(exit=EXITS[kind])), memory="4M", clock=clock) as vm:
        rips: list[int] = []

        def handler(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            rips.append(exit.rip)
            before = vcpu.rip, vcpu.sp
            vm.reset()
            assert (vcpu.rip, vcpu.sp) == before, "the state changed under the handler"
            if kind in ("port_in", "rdmsr"):
                exit.value = 7
            if kind == "hypercall" and verdict == "handled":
                vcpu.rip += exit.length
            return {"handled": hv.HANDLED, "pass": hv.PASS, "retry": hv.RETRY}[verdict]

        _register(vm, kind, handler)
        result = vm.run(timeout=30)
        assert result.reason is hv.Reason.POWERED_OFF, result.message
        assert int.from_bytes(vm.memory.read(0x600, 2), "little") == 3
        assert len(rips) == 2 and len(set(rips)) == 1


class Register:
    """Resets its VM when it is touched."""

    def __init__(self, vm: hv.VM) -> None:
        self.name = "resetter"
        self._vm = vm
        self.touched = self.resets = 0

    def read(self, offset: int, size: int) -> int:
        self.touched += 1
        self._vm.reset()
        return 0x55

    def write(self, offset: int, size: int, value: int) -> None:
        self.read(offset, size)

    def reset(self) -> None:
        self.resets += 1

    def state(self) -> dict[str, int]:
        return {}

    def restore(self, state: object) -> None: ...


ACCESSES = {
    "out": "out dx, al",
    "in": "in al, dx",
    "outsb": "mov si, 0x7c00; mov cx, 1; rep outsb",
    "read": "mov edi, 0xd0000000; mov al, [edi]",
    "write": "mov edi, 0xd0000000; mov [edi], al",
    "add": "mov edi, 0xd0000000; add byte ptr [edi], 1",
}
FLAT = """
    lgdt [0x7c00 + gdt - start]
    mov eax, 1
    mov cr0, eax
    mov bx, 8
    mov ds, bx
    xor eax, eax
    mov cr0, eax
"""


@CLOCKS
@pytest.mark.parametrize("access", ACCESSES)
def test_reset_in_the_middle_of_an_instruction(access: str, clock: str) -> None:
    """A device is called with the instruction half done; it is completed, and then the machine is reset."""
    flat = "" if "edi" not in ACCESSES[access] else (
        "push cs; pop ds; lgdt [0x7d80]; mov eax, cr0; or al, 1; mov cr0, eax; mov bx, 8; mov ds, bx\n"
        "and al, 0xfe; mov cr0, eax; xor ax, ax\n"
    )  # fmt: skip
    with hv.boot(boot_sector(COUNTED.format(exit=flat + ACCESSES[access])), memory="4M", clock=clock) as vm:
        vm.memory.write(0x7D80, bytes.fromhex("0f00907d0000"))
        vm.memory.write(0x7D90, bytes(8) + bytes.fromhex("ffff0000009 2cf00".replace(" ", "")))
        device = vm.attach(Register, ports=range(0x300, 0x301), mmio=range(0xD0000000, 0xD0001000))
        again = vm.reload
        assert again is not None

        def reload() -> None:  # the boot sector comes from its drive anew, the table beside it does not
            again()
            vm.memory.write(0x7D80, bytes.fromhex("0f00907d0000"))
            vm.memory.write(0x7D90, bytes(8) + bytes.fromhex("ffff00000092cf00"))

        vm.reload = reload
        result = vm.run(timeout=30)
        assert result.reason is hv.Reason.POWERED_OFF, result.message
        assert device.resets == 2
        assert device.touched == (4 if access == "add" else 2)


@CLOCKS
def test_nothing_runs_behind_an_out_that_resets(clock: str) -> None:
    code = COUNTED.format(exit="out dx, al")
    with hv.boot(boot_sector(code), memory="4M", clock=clock) as vm:
        vm.attach(Register, ports=range(0x300, 0x301))
        assert vm.run(timeout=30).reason is hv.Reason.POWERED_OFF
        assert vm.memory.read(0x602, 2) == bytes(2)


@CLOCKS
def test_reset_in_a_handler_that_stops_comes_when_the_run_ends(clock: str) -> None:
    with hv.boot(boot_sector(COUNTED.format(exit="vmmcall")), memory="4M", clock=clock) as vm:

        @vm.traps.hypercall()
        def stops(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vm.reset()
            return hv.stop("enough")

        for lives in (1, 2):
            result = vm.run(timeout=30)
            assert result.message == "enough" and result.ip != 0x7C00
            assert vm.vcpu.ip == 0x7C00 and not vm.reset_pending
            assert vm.memory.read(0x600, 1)[0] == lives


@CLOCKS
def test_reset_from_another_thread(clock: str) -> None:
    """The guest spins, or sleeps; each time it comes to life again."""
    code = COUNTED.format(exit="sti; test byte ptr [0x600], 1; jz spin; mov al, 0xff; out 0x21, al; sti; w: hlt; jmp w")
    with hv.boot(boot_sector(code), memory="4M", clock=clock) as vm:
        vm.console.open_input()
        results: list[hv.RunResult] = []
        thread = threading.Thread(target=lambda: results.append(vm.run(timeout=60)))
        thread.start()
        for lives in (1, 2):
            while vm.memory.read(0x600, 1)[0] < lives and thread.is_alive():
                pass
            vm.reset()
        thread.join()
        assert results[0].reason is hv.Reason.POWERED_OFF, results[0].message


@CLOCKS
def test_a_storm_of_resets_from_another_thread(clock: str) -> None:
    with hv.boot("long", memory="16M", clock=clock) as vm:
        ended = threading.Event()

        def storm() -> None:
            for _ in range(200):
                vm.reset()
                ended.wait(0.0005)

        thread = threading.Thread(target=storm)
        thread.start()
        while thread.is_alive():
            vm.run(timeout=0.02)
        thread.join()
        vm.reset()
        result = vm.run(timeout=60)
        assert result.reason is hv.Reason.DEBUG_EXIT, result.message


@CLOCKS
def test_reset_in_a_timer_and_while_stepping(clock: str) -> None:
    with hv.boot(boot_sector(COUNTED.format(exit="sti")), memory="4M", clock=clock) as vm:
        asked: list[int] = []

        def second_life() -> bool:
            lives = vm.memory.read(0x600, 1)[0]
            if lives == 1 and not asked:
                asked.append(vm.clock.now_ns + 1_000_000)
                vm.clock.call_at(asked[0], vm.reset)
            return lives == 2

        result = vm.run(timeout=30, until=second_life)
        assert result.reason is hv.Reason.UNTIL, result.message
        vm.reset()

        @vm.traps.execute(0x7C06, mode="observe")
        def here(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            vm.reset()

        ips = []
        for _ in range(8):
            vm.step(1)
            ips.append(vm.vcpu.ip)
        assert ips.count(0x7C00) == 0 or ips[0] != 0x7C00


SMP = """
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7000
    inc word ptr [0x600]
    mov eax, 0x801
    mov dx, 0x101
    out dx, eax
    cmp word ptr [0x600], 4
    jae enough
    {first}
again:
    pause
    jmp again
enough:
    cmp word ptr [0x602], 4
    jb enough
    mov dx, 0xf4
    mov al, 1
    out dx, al
"""
AP = """
    xor ax, ax
    mov ds, ax
    lock inc word ptr [0x602]
    mov cx, 5000
work:
    loop work
    rdtsc
    cmp eax, [0x608]
    jae later
    inc word ptr [0x60c]
later:
    mov [0x608], eax
    cmp word ptr [0x602], 4
    jae sleep
    {other}
sleep:
    sti
    hlt
    jmp sleep
"""


@CLOCKS
@pytest.mark.parametrize("who", ["first", "other"])
@pytest.mark.parametrize("waits", ["hlt", "again2: jmp again2"])
def test_reset_with_two_vcpus(who: str, waits: str, clock: str) -> None:
    """Either one asks for it, while the other one works or sleeps; time goes on for both."""
    asks = "vmmcall"
    first = asks if who == "first" else f"sti; {waits}"
    other = asks if who == "other" else ""
    if who == "first":
        first = "mov ax, [0x600]; wait: cmp [0x602], ax; jb wait; vmmcall"
    with machine(SMP.format(first=first), 2, AP.format(other=other), clock=clock) as vm:
        vm.input_open = True
        times: list[int] = []

        @vm.traps.hypercall()
        def resets(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            times.append(vm.clock.now_ns)
            vcpu.rip += exit.length
            vm.reset()
            return hv.HANDLED

        positions: list[list[int]] = []
        vm.on_reset.append(lambda: positions.append([vcpu.position for vcpu in vm.vcpus]))
        result = vm.run(timeout=60)
        assert result.reason is hv.Reason.DEBUG_EXIT, result.message
        assert len(times) == 3 and times == sorted(times)
        assert vm.memory.read(0x60C, 2) == bytes(2), "the time went back"
        if clock == "virtual":
            assert all(max(two) - min(two) < 1_000_000 for two in positions), positions


def test_resets_in_handlers_repeat_beside_a_neighbour() -> None:
    def once(host: hv.Host) -> tuple[Any, ...]:
        with machine(SMP.format(first="sti; hlt"), 2, AP.format(other="vmmcall"), host=host) as vm:

            @vm.traps.hypercall()
            def resets(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
                vcpu.rip += exit.length
                vm.reset()
                return hv.HANDLED

            vm.input_open = True
            result = vm.run(timeout=60)
            assert result.reason is hv.Reason.DEBUG_EXIT, result.message
            return result.virtual_s, dict(result.exits), vm.memory.read(0x600, 16), [v.position for v in vm.vcpus]

    with closing(hv.Host(memory="8M", cpus=1)) as host:
        alone = once(host)
        runs: list[Any] = []
        threads = [threading.Thread(target=lambda: runs.append(once(host))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert runs == [alone] * 4
