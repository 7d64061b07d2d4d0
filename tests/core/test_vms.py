"""Several VMs on a host, devices from users, boards, plugins, and the wall clock."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.testing import check_device
from tests.core.bare import bare
from tests.sectors import boot_sector


class Dice:
    """A register that counts its reads and raises its line when written."""

    def __init__(self, sides: int = 6, line: Any = None) -> None:
        self.name = "dice"
        self.sides = sides
        self.line = line
        self.rolls = 0

    def read(self, offset: int, size: int) -> int:
        self.rolls = (self.rolls + 1) & 0xFF
        return self.rolls

    def write(self, offset: int, size: int, value: int) -> None:
        if self.line is not None:
            self.line.raise_()

    def reset(self) -> None:
        self.rolls = 0

    def state(self) -> dict[str, int]:
        return {"rolls": self.rolls}

    def restore(self, state: object) -> None:
        if not isinstance(state, dict) or not isinstance(state.get("rolls"), int):
            raise hv.DeviceError("dice: this is not a state of a Dice; restore what state() returned.")
        self.rolls = state["rolls"]


# --- devices ----------------------------------------------------------------------------------------------------------


def test_a_users_device_keeps_the_contract() -> None:
    check_device(Dice, size=1)


def test_a_device_by_ports() -> None:
    with bare("mov dx, 0x300; in al, dx; in al, dx; hlt") as vm:
        dice = vm.attach(Dice(20), ports=range(0x300, 0x301))
        assert vm.run(timeout=5).al == 2 and dice.sides == 20


def test_a_device_by_mmio() -> None:
    with bare("mov al, [0xd0000000]; mov al, [0xd0000001]; mov ah, [rdi]; hlt", rdi=0xD0000002) as vm:
        vm.attach(Dice(), mmio=range(0xD0000000, 0xD0000002))
        assert vm.run(timeout=5).ax == 0xFF02


def test_a_device_over_memory() -> None:
    with bare("mov al, [0x40000]; hlt") as vm:
        vm.memory.write(0x40000, b"\x77")
        vm.attach(Dice(), mmio=range(0x40000, 0x41000))
        assert vm.run(timeout=5).al == 1


@pytest.mark.parametrize("make", [lambda: Dice(), lambda: Dice], ids=["instance", "class"])
def test_a_device_with_an_interrupt(make: Any) -> None:
    code = """cli; xor ax, ax; mov ds, ax; mov word ptr [0x34], handler; mov [0x36], ax
    mov al, 0xdf; out 0x21, al; sti; mov dx, 0x300; out dx, al; l: hlt; jmp l
    handler: mov bx, 0x1234; mov dx, 0x604; mov ax, 0x2000; out dx, ax
    """
    with hv.boot(boot_sector(code), memory="4M") as vm:
        vm.attach(make(), ports=range(0x300, 0x301), irq=5)
        result = vm.run(timeout=5)
        assert result.reason is hv.Reason.POWERED_OFF and result.bx == 0x1234


def test_overlap_and_replacement() -> None:
    with hv.boot(boot_sector("in al, 0x61; cli; hlt"), memory="4M") as vm:
        with pytest.raises(hv.DeviceError, match=r"overlaps.*replace=True"):
            vm.attach(Dice(), ports=range(0x61, 0x62))
        vm.attach(Dice(), ports=range(0x61, 0x62), replace=True)
        assert vm.run(timeout=5).al == 1
        with pytest.raises(hv.DeviceError, match="before the VM's first run"):
            vm.attach(Dice(), ports=range(0x300, 0x301))


@pytest.mark.parametrize(
    "device,options,sentence",
    [
        (Dice(), {}, "say where it answers"),
        (Dice(), {"ports": range(0x300, 0x300)}, "non-empty"),
        (Dice(), {"ports": range(0xFFFF, 0x10001)}, "is not a range of I/O ports"),
        (object(), {"ports": range(0x300, 0x301)}, "is not a device: it has no name, read"),
        (Dice(), {"ports": range(0x300, 0x301), "irq": 99}, "no interrupt input 99"),
    ],
)
def test_bad_attachments(device: Any, options: Any, sentence: str) -> None:
    with hv.boot("hello", memory="4M") as vm, pytest.raises(hv.DeviceError, match=sentence):
        vm.attach(device, **options)


def test_a_raising_device_ends_its_vm() -> None:
    class Broken(Dice):
        def read(self, offset: int, size: int) -> int:
            raise OSError("unplugged")

    with bare("mov dx, 0x300; in al, dx; hlt") as vm:
        vm.attach(Broken(), ports=range(0x300, 0x301))
        result = vm.run(timeout=5)
        assert result.reason is hv.Reason.HOST_ERROR and "OSError: unplugged" in result.message


def test_a_board_is_taken_apart_and_extended() -> None:
    board = hv.pc().without("rtc").with_part(hv.Part("dice", lambda vm, parts: Dice(), ((range(0x300, 0x301), 0x300),)))
    assert "rtc" in {part.name for part in hv.pc().parts}  # a value: the original stays
    with hv.boot(
        boot_sector("in al, 0x71; mov ah, al; mov dx, 0x300; in al, dx; cli; hlt"), memory="4M", board=board
    ) as vm:
        assert vm.run(timeout=5).ax == 0xFF01
        assert "dice" in vm.devices and "rtc" not in vm.devices
    with pytest.raises(hv.ConfigError, match="has no part 'rtcc'"):
        hv.pc().without("rtcc")
    with_other = board.with_part(hv.Part("dice", lambda vm, parts: Dice(3), ((range(0x310, 0x311), 0x310),)))
    assert len(with_other.parts) == len(board.parts)


# --- plugins ----------------------------------------------------------------------------------------------------------


class Brand:
    """A plugin with an option, a handler and all three calls."""

    def __init__(self, eax: int = 1) -> None:
        self.eax = eax
        self.log: list[str] = []

    def attach(self, vm: hv.VM) -> None:
        self.log.append("attach")

        @vm.traps.cpuid(leaf=0x40000000)
        def brand(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            exit.eax = self.eax
            return hv.HANDLED

    def reset(self) -> None:
        self.log.append("reset")

    def detach(self) -> None:
        self.log.append("detach")


ASK = boot_sector("mov eax, 0x40000000; cpuid; cli; hlt")


def test_a_plugin_from_attach_to_detach() -> None:
    plugin = Brand(0x1234)
    with hv.boot(ASK, memory="4M", plugins=[plugin]) as vm:
        assert vm.run(timeout=5).eax == 0x1234
        assert "Brand.brand" in vm.traps.names()
        vm.traps.disable("Brand.brand")
        vm.reset()
        assert vm.run(timeout=5).eax != 0x1234
        with pytest.raises(hv.TrapError, match=r"overlaps handler 'brand' of plugin 'Brand'"):
            vm.traps.enable("Brand.brand")
            vm.traps.cpuid(lambda vcpu, exit: hv.PASS, leaf=0x40000000)
    assert plugin.log == ["attach", "reset", "detach"]


def test_two_plugins_that_want_the_same_exit() -> None:
    class Other(Brand):
        pass

    with pytest.raises(hv.HypervisorError, match=r"of plugin 'Other' .* overlaps handler .* of plugin 'Brand'"):
        hv.boot(ASK, memory="4M", plugins=[Brand(), Other()])


def test_a_plugin_by_name_with_options() -> None:
    with hv.boot(ASK, memory="4M", plugins=[f"{__name__}:Brand,eax=0x77"]) as vm:
        assert vm.run(timeout=5).eax == 0x77


# --- several VMs ------------------------------------------------------------------------------------------------------

COUNT = "mov ecx, 3000000; l: inc ebx; dec ecx; jnz l; cpuid; hlt"


@pytest.mark.parametrize("cpus", [1, 2])
def test_two_vms_in_two_threads(cpus: int) -> None:
    results: dict[int, hv.RunResult] = {}
    with hv.Host("8M", cpus) as host, bare(COUNT, host=host) as one, bare(COUNT, host=host, rbx=5) as two:

        def work(n: int, vm: hv.VM) -> None:
            results[n] = vm.run(timeout=30)

        threads = [threading.Thread(target=work, args=pair) for pair in ((0, one), (1, two))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [results[n].reason for n in (0, 1)] == [hv.Reason.HALTED] * 2, results
    plain = hv.run_asm("xor eax, eax; cpuid; hlt")
    assert results[0].virtual_s == results[1].virtual_s
    assert plain.reason is hv.Reason.HALTED


def test_vms_take_turns_on_one_cpu_with_their_own_traps() -> None:
    """Execute traps, watches and guest breakpoints belong to a VM, not to the pCPU."""
    seen: list[str] = []
    code = "l: nop; mov [rdi], al; vmmcall; jmp l"
    with hv.Host("4M", 1) as host, bare(code, host=host, rdi=0x80000) as one, bare(code, host=host, rdi=0x80000) as two:
        for vm in (one, two):

            @vm.traps.hypercall()
            def call(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
                vcpu.rip += exit.length
                return hv.stop("round")

        one.traps.execute(0x10000, lambda vcpu, exit: seen.append("execute"), mode="observe")
        two.traps.memory(range(0x80000, 0x80001), lambda vcpu, exit: seen.append("memory"), mode="observe")
        for vm in (one, two, one, two, two):
            assert vm.run(timeout=5).message == "round"
    assert seen == ["execute", "memory", "execute", "memory", "memory"]


def test_a_vm_runs_in_one_thread_at_a_time() -> None:
    with bare("vmmcall; hlt") as vm:

        @vm.traps.hypercall()
        def again(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vm.run()
            return hv.HANDLED

        result = vm.run(timeout=5)
        assert result.reason is hv.Reason.HOST_ERROR and "running already" in result.message
    with pytest.raises(hv.ConfigError, match="is closed"):
        vm.run()


# --- wall clock -------------------------------------------------------------------------------------------------------


def test_the_wall_clock_follows_the_host() -> None:
    timer = """cli; xor ax, ax; mov ds, ax; mov word ptr [0x20], tick; mov [0x22], ax; mov al, 0xfe; out 0x21, al
    mov al, 0x34; out 0x43, al; mov ax, 11932; out 0x40, al; mov al, ah; out 0x40, al; xor bx, bx; sti
    l: hlt; cmp bx, 10; jb l; cli; hlt
    tick: inc bx; push ax; mov al, 0x20; out 0x20, al; pop ax; iret
    """
    with hv.boot(boot_sector(timer), memory="4M", clock="wall") as vm:
        began = time.monotonic()
        result = vm.run(timeout=10)
        assert result.reason is hv.Reason.HALTED and result.bx == 10
        assert 0.08 < time.monotonic() - began < 1  # ten ticks at 100 Hz
    with hv.boot(boot_sector(timer), memory="4M") as vm:
        result = vm.run(timeout=10)
        assert result.bx == 10 and 0.09 < result.virtual_s < 0.12 and result.wall_s < 0.09
