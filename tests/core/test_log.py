"""The log: what each category shows, where it goes, and that the guest does the same without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.vm.watching.log import CATEGORIES
from tests.core.bare import bare, with_idt
from tests.sectors import boot_sector

SAID = {
    "faults": ("mov al, [0x4000000000]; hlt", "#PF page fault, error 0x0, address 0x4000000000 at 0x10000"),
    "int": ("int 0x40; hlt", "int 0x40 at 0x10000"),
    "io": ("mov al, 7; out 0x80, al; hlt", "out 0x80, 0x7 (1) at 0x10002"),
    "exits": ("mov ecx, 0x10; xor eax, eax; xor edx, edx; wrmsr; hlt", "wrmsr TSC, 0x0 at 0x10009"),
}


@pytest.mark.parametrize("category", SAID)
def test_a_line_has_time_what_where_and_only_its_category(category: str) -> None:
    code, wanted = SAID[category]
    for logged in (*SAID, "reset"):
        lines: list[str] = []
        with bare(code) as vm:
            with_idt(vm, {14: "hlt", 0x40: "hlt"})
            vm.symbols.add({"start": 0x10000})
            with vm.log(logged, to=lines.append):
                vm.run(timeout=20)
        texts = [line.split(" ns  ")[1] for line in lines]
        assert all(int(line.split(" ns  ")[0]) >= 0 for line in lines)
        offset = int(wanted.rpartition("at ")[2], 16) - 0x10000
        found = f"{wanted} (start+{offset:#x})" if offset else f"{wanted} (start)"
        assert (found in texts) == (logged == category)


def test_an_address_is_linear_in_a_segment_of_real_mode() -> None:
    lines: list[str] = []
    with bare("", mode=16) as vm:
        vm.memory.write(0x12340, bytes.fromhex("e680 f4"))  # out 0x80, al; hlt
        vm.vcpu.cs, vm.vcpu.rip = hv.Segment(0x1230, 0x12300, 0xFFFF, 0x9B), 0x40
        vm.symbols.add({"here": 0x12340})
        with vm.log("io", to=lines.append):
            vm.run(timeout=20)
    assert lines[0].endswith("(1) at 0x12340 (here)")


def test_bios_calls_are_told_with_their_results() -> None:
    lines: list[str] = []
    with hv.boot("hello", memory="16M") as vm:
        vm.log("bios", to=lines.append)
        vm.run(timeout=60)
    assert any("INT 10h AH=0Eh" in line and "AX=0e48" in line and "CF=" in line for line in lines)


def test_a_reset_and_the_end_of_the_run_are_told() -> None:
    lines: list[str] = []
    code = boot_sector("mov al, 0xfe; out 0x64, al; hlt")
    with hv.boot(code, memory="8M", reboot=True) as vm:
        vm.log("reset", to=lines.append)
        vm.run(timeout=60, virtual_timeout=0.0002)
    assert sum(" reset at " in line for line in lines) > 1
    assert "the run ends (virtual-timeout)" in lines[-1] or " reset at " in lines[-1]  # asked for just before the end
    assert sum("the run ends (virtual-timeout)" in line for line in lines[-2:]) == 1


def test_with_several_vcpus_each_line_names_its_own() -> None:
    lines: list[str] = []
    with hv.boot("smp", memory="16M", cpus=2) as vm:
        vm.log("reset,int", to=lines.append)
        vm.run(timeout=60)
    texts = [line.split(" ns ")[1] for line in lines]
    assert {text.split()[0] for text in texts} == {"cpu0", "cpu1"}
    assert any(text.startswith("cpu1  INIT at") for text in texts)
    assert any(text.startswith("cpu1  start-up IPI 0x") for text in texts)


def test_nmi_and_interrupts_are_told() -> None:
    lines: list[str] = []
    with hv.boot("preempt", memory="16M") as vm:
        vm.log("int", to=lines.append)
        vm.run(timeout=60, virtual_timeout=0.05)
        vm.nmi()
        vm.run(timeout=60, virtual_timeout=0.05)
    assert any("  interrupt 0x" in line for line in lines) and any("  NMI at" in line for line in lines)


@pytest.mark.parametrize("guest", ["trapzoo", "preempt", "pagefault", "apic", "hello"])
def test_the_guest_does_the_same_with_and_without_a_log(guest: str) -> None:
    def run(prepare: Callable[[hv.VM], Any]) -> tuple[Any, ...]:
        with hv.boot(guest, memory="16M") as vm:
            prepare(vm)
            result = vm.run(timeout=60, virtual_timeout=0.3)
            return vm.console.text, result.reason, vm.clock.now_ns, dict(result.exits), result.registers

    count: list[str] = []
    assert run(lambda vm: vm.log(to=count.append)) == run(lambda vm: None)
    assert len(count) > 10


def test_without_a_log_nothing_listens() -> None:
    with bare("hlt") as vm:
        names = vm.traps.names()
        log = vm.log(to=print)
        assert vm.listeners and len(vm.traps.names()) > len(names)
        log.close()
        log.close()
        assert vm.traps.names() == names and not vm.listeners


def test_two_logs_go_where_each_was_sent(tmp_path: Path) -> None:
    lines: list[str] = []
    with bare("mov al, 7; out 0x80, al; cpuid; hlt") as vm:
        vm.log("io,exits", to=tmp_path / "all.log")
        vm.log("io", to=lines.append)
        vm.run(timeout=20)
    text = (tmp_path / "all.log").read_text()
    assert len(lines) == 1 and lines[0] in text.splitlines()
    assert [line.split("  ")[-1].split()[0] for line in text.splitlines()] == ["out", "cpuid", "hlt"]


def test_a_log_that_cannot_be_written_ends_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with bare("mov al, 7; out 0x80, al; out 0x80, al; hlt") as vm:
        log = vm.log("io", to="/dev/full")
        assert log._file is not None
        log._file.reconfigure(line_buffering=True)  # type: ignore[attr-defined]  # a text file
        assert vm.run(timeout=20).reason is hv.Reason.HALTED
    assert "No space left" in caplog.text and caplog.text.count("the log ends here") == 1


def test_every_category_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "debugging.md").read_text()
    assert [name for name in CATEGORIES if f"| `{name}` |" not in text] == []
