"""Traps on code and data: execute and memory traps, and stepping."""

from __future__ import annotations

import struct
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.machine.bare import PAGE_TABLES
from tests.core.bare import DATA, addresses, bare, with_idt

CODE = 0x10000


def alias(vm: hv.VM, gva: int, gpa: int) -> None:
    """Map the 2 MiB at ``gva`` (from 512 GiB on) to ``gpa`` too."""
    pdpt, directory = 0x7000, 0x8000
    vm.memory.write(PAGE_TABLES + 8 * (gva >> 39 & 511), struct.pack("<Q", pdpt | 7))
    vm.memory.write(pdpt + 8 * (gva >> 30 & 511), struct.pack("<Q", directory | 7))
    vm.memory.write(directory + 8 * (gva >> 21 & 511), struct.pack("<Q", gpa | 0x87))


ALIAS = 1 << 39


# --- execute ----------------------------------------------------------------------------------------------------------


def test_execute_sees_the_state_before_the_instruction() -> None:
    seen = []
    with bare("mov eax, 1; mov eax, 2; hlt") as vm:
        vm.traps.execute(
            CODE + 5, lambda vcpu, exit: seen.append((vcpu.eax, exit.address, exit.length)), mode="observe"
        )
        assert vm.run(timeout=5).eax == 2
        assert seen == [(1, CODE + 5, 5)]
        assert vm.stats["execute"] == 1


def test_execute_by_symbol() -> None:
    with bare("nop; nop; hlt") as vm:
        vm.symbols.add({"second": CODE + 1})
        vm.traps.execute("second", lambda vcpu, exit: hv.stop("there"))
        assert vm.run(timeout=5).message == "there"
        with pytest.raises(hv.HypervisorError, match="nowhere"):
            vm.traps.execute("nowhere", lambda vcpu, exit: hv.PASS)


@pytest.mark.parametrize("code", ["mov eax, 0x12345678", "movaps xmm0, xmm1", "lea rax, [rbx + rcx * 4 + 0x1000]"])
def test_execute_handled_skips_any_instruction(code: str) -> None:
    with bare(f"{code}; mov ebx, 1; hlt") as vm:
        vm.traps.execute(CODE, lambda vcpu, exit: hv.HANDLED)
        result = vm.run(timeout=5)
        assert result.reason is hv.Reason.HALTED and (result.eax, result.ebx) == (0, 1)


def test_execute_can_go_elsewhere() -> None:
    def elsewhere(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        vcpu.rip = CODE + 6
        return hv.HANDLED

    with bare("nop; mov eax, 1; hlt") as vm:
        vm.traps.execute(CODE + 1, elsewhere)
        assert vm.run(timeout=5).eax == 0


def test_execute_in_a_hot_loop_and_after_being_disabled() -> None:
    seen: list[int] = []
    with bare("l: mov ecx, 5; m: dec ecx; jnz m; vmmcall; jmp l") as vm:
        vm.traps.execute(CODE + 5, lambda vcpu, exit: seen.append(vcpu.ecx), mode="observe", name="loop")

        @vm.traps.hypercall()
        def call(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vcpu.rip += exit.length
            return hv.stop("round")

        vm.run(timeout=5)
        assert seen == [5, 4, 3, 2, 1]
        vm.traps.disable("loop")
        vm.run(timeout=5)
        assert len(seen) == 5
        vm.traps.enable("loop")
        vm.run(timeout=5)
        assert len(seen) == 10
        vm.traps.remove("loop")
        vm.run(timeout=5)
        assert len(seen) == 10


def test_execute_survives_paging_changes() -> None:
    """By linear address: the same page through another address does not stop, and new tables do not matter."""
    seen = []
    jump = ALIAS + CODE
    code = f"mov rax, cr3; mov cr3, rax; nop; inc ebx; cmp ebx, 2; je out; mov rax, {jump:#x}; jmp rax; out: hlt"
    with bare(code) as vm:
        alias(vm, ALIAS, 0)
        vm.traps.execute(CODE + 6, lambda vcpu, exit: seen.append(exit.address), mode="observe")
        vm.traps.execute(jump + 7, lambda vcpu, exit: seen.append(exit.address), mode="observe")
        assert vm.run(timeout=5).ebx == 2
    assert seen == [CODE + 6, jump + 7]


def test_a_stopped_execute_trap_is_hit_again() -> None:
    with bare("nop; nop; hlt") as vm:
        vm.traps.execute(CODE + 1, lambda vcpu, exit: hv.stop("here"), name="stop")
        assert vm.run(timeout=5).message == "here"
        assert vm.run(timeout=5).message == "here"
        vm.traps.disable("stop")
        assert vm.run(timeout=5).reason is hv.Reason.HALTED


# --- memory -----------------------------------------------------------------------------------------------------------

TOUCHES = {
    "mov [rdi], al": "w",
    "mov al, [rdi]": "r",
    "add [rdi], al": "rw",
    "lodsb": "r",
    "stosb": "w",
    "xchg [rdi], al": "rw",
}


@pytest.mark.parametrize("space", ["physical", "virtual"])
@pytest.mark.parametrize("code", TOUCHES)
@pytest.mark.parametrize("access", ["r", "w", "rw"])
def test_memory_sees_its_accesses_and_no_others(code: str, access: str, space: str) -> None:
    seen = []
    with bare(f"{code}; mov [rdi + 64], al; mov al, [rdi + 64]; hlt", rdi=DATA, rsi=DATA) as vm:
        where = range(DATA, DATA + 8)

        @vm.traps.memory(where, access=access, space=space, mode="observe")
        def watch(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            assert exit.gpa == DATA and exit.rip == CODE
            seen.append(exit.access)

        assert vm.run(timeout=5).reason is hv.Reason.HALTED
    assert "".join(seen) == "".join(letter for letter in TOUCHES[code] if letter in access)


def test_memory_by_virtual_address_follows_the_page_tables() -> None:
    seen: list[tuple[int, int]] = []
    code = "mov [rbx], al; mov [rcx], al; mov rax, cr3; mov cr3, rax; mov [rbx], al; hlt"
    with bare(code, rbx=ALIAS + DATA, rcx=DATA) as vm:
        alias(vm, ALIAS, 0)
        note = lambda vcpu, exit: seen.append((exit.address, exit.gpa))  # noqa: E731
        vm.traps.memory(range(ALIAS + DATA, ALIAS + DATA + 4), note, access="w", space="virtual", mode="observe")
        vm.run(timeout=5)
    assert seen == [(ALIAS + DATA, DATA)] * 2


def test_memory_by_virtual_address_tells_pages_and_aliases_apart() -> None:
    """Pages of one range, the same frame at two watched addresses, and pages that share a place in the window."""
    seen: list[tuple[int, int]] = []
    far = 256 << 12  # the same place
    at = [DATA, DATA + 0x1000, ALIAS + DATA, ALIAS + DATA + far, DATA + far]
    stores = "; ".join(
        f"mov rbx, {address + 8 * n:#x}; mov [rbx], eax" for n in range(3) for address in (*at, *at[::-1])
    )
    with bare(stores + "; hlt") as vm:
        alias(vm, ALIAS, 0)
        note = lambda vcpu, exit: seen.append((exit.gva, exit.gpa))  # noqa: E731
        for start in (0, ALIAS):
            where = range(start + DATA, start + DATA + far + 0x1000)
            vm.traps.memory(where, note, access="w", space="virtual", mode="observe", name=f"from {start:#x}")
        vm.run(timeout=5)
    assert seen == [(a + 8 * n, (a + 8 * n) % ALIAS) for n in range(3) for a in (*at, *at[::-1])]


def test_memory_by_physical_address_sees_every_mapping() -> None:
    seen = []
    with bare("mov [rbx], al; mov [rcx], al; hlt", rbx=ALIAS + DATA, rcx=DATA) as vm:
        alias(vm, ALIAS, 0)
        vm.traps.memory(range(DATA, DATA + 4), lambda vcpu, exit: seen.append(exit.address), access="w", mode="observe")
        vm.run(timeout=5)
    assert seen == [DATA, DATA]


def test_memory_values_can_be_changed() -> None:
    def change(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        exit.value = 0x55 if exit.access == "r" else exit.value + 1
        return hv.HANDLED

    with bare("mov byte ptr [rdi], 7; mov al, [rdi + 1]; hlt", rdi=DATA) as vm:
        vm.traps.memory(range(DATA, DATA + 2), change)
        assert vm.run(timeout=5).al == 0x55
        assert vm.memory.read(DATA, 2) == b"\x08\0"


@pytest.mark.parametrize("verdict", ["stop", "inject", "retry"])
def test_memory_verdicts_undo_the_access(verdict: str) -> None:
    times = 0

    def decide(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        nonlocal times
        times += 1
        if verdict == "stop":
            return hv.stop("no")
        if verdict == "inject":
            return hv.inject(13, 0)
        return hv.RETRY if times < 3 else hv.PASS

    with bare("inc dword ptr [rdi]; vmmcall", rdi=DATA) as vm:
        with_idt(vm, {13: "mov rsi, [rsp + 8]; vmmcall"})
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
        vm.traps.memory(range(DATA, DATA + 4), decide, access="w")
        result = vm.run(timeout=5)
        stored = vm.memory.read(DATA, 1)
    expected: dict[str, Any] = {"stop": ("no", b"\0"), "inject": ("end", b"\0"), "retry": ("end", b"\1")}
    assert (result.message, stored) == expected[verdict]
    if verdict == "inject":
        assert result.rsi == CODE


@pytest.mark.parametrize("space", ["physical", "virtual"])
def test_memory_fetches(space: str) -> None:
    seen = []
    with bare("nop; inc ebx; nop; call f; hlt; f: ret") as vm:
        watch = range(CODE + 1, CODE + 2)
        vm.traps.memory(watch, lambda vcpu, exit: seen.append(exit.address), access="x", space=space, mode="observe")
        result = vm.run(timeout=5)
        assert result.reason is hv.Reason.HALTED and result.ebx == 1
    assert seen == [CODE + 1]


def test_watched_memory_takes_no_guest_time() -> None:
    code = "mov [rdi], al; rdtsc; hlt"
    with bare(code, rdi=DATA) as plain, bare(code, rdi=DATA) as watched:
        watched.traps.memory(range(DATA, DATA + 1), lambda vcpu, exit: None, mode="observe")
        assert plain.run(timeout=5).eax == watched.run(timeout=5).eax
        assert watched.stats["memory"] == 1 and "mmio_write" not in watched.stats


def test_watches_vanish_with_their_handler() -> None:
    with bare("l: mov [rdi], al; vmmcall; jmp l", rdi=DATA) as vm:

        @vm.traps.hypercall()
        def call(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vcpu.rip += exit.length
            return hv.stop("round")

        vm.traps.memory(range(DATA, DATA + 1), lambda vcpu, exit: None, mode="observe", name="watch")
        vm.run(timeout=5)
        vm.traps.remove("watch")
        vm.run(timeout=5)
        assert vm.stats["memory"] == 1


def test_memory_arguments_are_checked() -> None:
    with bare("hlt") as vm:
        for arguments, sentence in (
            ({"where": range(0)}, "non-empty range"),
            ({"where": 5}, "non-empty range"),
            ({"where": range(0, 8, 2)}, "step 1"),
            ({"where": range(8), "access": "q"}, "letters r, w and x"),
            ({"where": range(8), "space": "linear"}, "'physical' or 'virtual'"),
        ):
            with pytest.raises(hv.TrapError, match=sentence):
                vm.traps.memory(fn=lambda vcpu, exit: None, **arguments)
        for n in range(65):
            vm.traps.memory(range(n, n + 1), lambda vcpu, exit: None, space="virtual", mode="observe", name=f"w{n}")
        result = None
        with pytest.raises(hv.TrapError, match="at most 64"):
            result = vm.run(timeout=5)
        assert result is None


# --- stepping ---------------------------------------------------------------------------------------------------------


def test_step_runs_exactly_that_many_instructions() -> None:
    code = "mov eax, 1; cpuid; in al, 0x60; mov al, [0xd0000000]; rdtsc; nop; mov rax, cr0; mov cr0, rax; nop; hlt"
    places = addresses(code)
    with bare(code) as vm:
        rips = []
        for _ in places[1:]:
            assert vm.vcpu.step() == 1
            rips.append(vm.vcpu.rip)
        assert rips == places[1:]
        assert vm.vcpu.step() == 0  # it sleeps
    with bare(code) as vm:
        assert vm.vcpu.step(4) == 4
        assert vm.vcpu.rip == places[4]
        assert vm.vcpu.step(100) == len(places) - 5


def test_step_asks_handlers_and_counts_a_trapped_instruction_once() -> None:
    with bare("nop; nop; nop; hlt") as vm:
        seen = []
        vm.traps.execute(CODE + 1, lambda vcpu, exit: seen.append(exit.rip), mode="observe")
        assert vm.vcpu.step(2) == 2
        assert vm.vcpu.rip == CODE + 2 and seen == [CODE + 1]


def test_step_counts_a_fault_and_ends_with_the_vm() -> None:
    with bare("ud2; hlt") as vm:
        with_idt(vm, {6: "nop; vmmcall"})
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("enough"))
        assert vm.vcpu.step() == 1
        assert vm.vcpu.rip == 0x70000
        assert vm.vcpu.step(5) == 2
        assert vm.result is not None and vm.result.message == "enough"


def test_step_then_run_and_run_then_step() -> None:
    with bare("inc eax; inc eax; vmmcall; inc eax; hlt") as vm:
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("half"))
        vm.vcpu.step()
        assert vm.vcpu.eax == 1
        assert vm.run(timeout=5).eax == 2
        vm.vcpu.rip += 3
        assert vm.vcpu.step() == 1 and vm.vcpu.eax == 3
        assert vm.run(timeout=5).reason is hv.Reason.HALTED


def test_step_under_the_wall_clock() -> None:
    own = hv.Host("2M", 1)
    with own, hv.VM(own, hv.MachineConfig(memory="1M", clock="wall")) as vm:
        from hypervisor.machine.bare import prepare

        prepare(vm, b"\x90\x90\xff\xc0\xf4", 64, CODE, 0x90000)
        assert vm.vcpu.step(3) == 3 and vm.vcpu.eax == 1
        assert vm.run(timeout=5).reason is hv.Reason.HALTED


def test_step_from_a_handler_is_refused() -> None:
    with bare("vmmcall; hlt") as vm:
        vm.traps.hypercall(lambda vcpu, exit: vcpu.step() or hv.PASS)
        result = vm.run(timeout=5)
        assert result.reason is hv.Reason.HOST_ERROR and "running already" in result.message
