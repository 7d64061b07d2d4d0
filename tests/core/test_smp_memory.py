"""Memory that vCPUs share: locks, code that one writes and another runs, and translations that one takes away."""

from __future__ import annotations

from itertools import pairwise

import pytest

import hypervisor as hv
from hypervisor.run.sharing import turns
from tests.core.smp import long_mode

HALT = "cli\nhlt\n"
INTERRUPT = 0x102
LOCKS = {
    "xchg": (
        "a: mov eax, 1\nxchg eax, [0x80000]\ntest eax, eax\njz got\npause\njmp a\ngot:",
        "mov dword ptr [0x80000], 0",
    ),
    "bts": ("a: lock bts dword ptr [0x80000], 0\njnc got\npause\njmp a\ngot:", "mov dword ptr [0x80000], 0"),
    "cmpxchg": (
        "a: xor eax, eax\nmov ebx, 1\nlock cmpxchg [0x80000], ebx\njz got\npause\njmp a\ngot:",
        "mov dword ptr [0x80000], 0",
    ),
    "ticket": (
        "mov eax, 1\nlock xadd [0x80000], eax\na: cmp eax, [0x80004]\nje got\npause\njmp a\ngot:",
        "inc dword ptr [0x80004]",
    ),
}  # fmt: skip
"""Spin locks: how they are taken and given back."""


def _word(vm: hv.VM, address: int) -> int:
    return int.from_bytes(vm.memory.read(address, 4), "little")


@pytest.mark.parametrize("slice_ns", [17, 1009, turns.SLICE_NS])
@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_held_by_one_vcpu_whenever_their_turns_end(
    lock: str, slice_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SLICE_NS", slice_ns)
    take, give = LOCKS[lock]
    rounds = 300
    held = "inc dword ptr [0x80010]\ncmp dword ptr [0x80010], 1\nje alone\ninc dword ptr [0x80014]\nalone:\n"
    held += "inc dword ptr [0x80018]\nnop\nnop\ndec dword ptr [0x80010]\n"
    code = f"mov ecx, {rounds}\nagain:\n{take}\n{held}{give}\ndec ecx\njnz again\n" + HALT
    with long_mode([code] * 3) as vm:
        result = vm.run(timeout=30, virtual_timeout=1)
        assert result.reason is hv.Reason.HALTED, result.message
        assert (_word(vm, 0x80014), _word(vm, 0x80018)) == (0, 3 * rounds)


@pytest.mark.parametrize("slice_ns", [13, 101, 1009])
def test_a_turn_ends_between_instructions(slice_ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read-modify-write instructions without LOCK are exact, wherever turns end."""
    monkeypatch.setattr(turns, "SLICE_NS", slice_ns)
    code = "mov ecx, 3000\na: inc dword ptr [0x80000]\nadd dword ptr [0x80004], 3\nxor dword ptr [0x80008], 1\n"
    code += "adc dword ptr [0x8000c], 0\ndec ecx\njnz a\n" + HALT
    with long_mode([code] * 4) as vm:
        assert vm.run(timeout=30, virtual_timeout=1).reason is hv.Reason.HALTED
        assert [_word(vm, 0x80000 + at) for at in (0, 4, 8, 12)] == [12000, 36000, 0, 0]


@pytest.mark.parametrize("others_page", [0x1F000, 0x12000 - 16], ids=["a page of its own", "beside its caller"])
def test_code_that_another_vcpu_has_written_is_what_runs(others_page: int) -> None:
    """``mov eax, N; ret`` is rewritten by one vCPU and called by the other, 1,000 times."""
    rounds, target = 1000, others_page
    writer = f"""
        mov byte ptr [{target}], 0xb8
        mov byte ptr [{target + 5}], 0xc3
        mov ecx, 1
        again:
        mov [{target + 1}], ecx
        mov [0x80000], ecx
        wait:
        pause
        cmp [0x80004], ecx
        jne wait
        inc ecx
        cmp ecx, {rounds + 1}
        jne again
        cli
        hlt
    """
    caller = f"""
        wait:
        pause
        mov ecx, [0x80000]
        cmp ecx, [0x80004]
        je wait
        call {target}
        cmp eax, ecx
        je right
        inc dword ptr [0x80008]
        right:
        mov [0x80004], ecx
        cmp ecx, {rounds}
        jne wait
        cli
        hlt
    """
    with long_mode([writer, caller]) as vm:
        result = vm.run(timeout=30, virtual_timeout=1)
        assert result.reason is hv.Reason.HALTED, result.message
        assert (_word(vm, 0x80004), _word(vm, 0x80008)) == (rounds, 0)


def test_code_that_is_written_while_it_runs_is_old_or_new() -> None:
    """The immediate of a running loop is rewritten without asking: each value is one that was written, in order."""
    writer = "mov ecx, 1\na: mov [0x1f001], ecx\nmov edx, 300\nb: dec edx\njnz b\ninc ecx\ncmp ecx, 5000\njne a\n"
    writer += "mov dword ptr [0x80000], 1\n" + HALT
    caller = "a: call 0x1f000\ncmp eax, ebx\njl wrong\nmov ebx, eax\ncmp eax, 4999\njg wrong\n"
    caller += "cmp dword ptr [0x80000], 0\nje a\nmov [0x80004], eax\n" + HALT
    caller += "wrong: inc dword ptr [0x80008]\n" + HALT
    with long_mode([writer, caller]) as vm:
        vm.memory.write(0x1F000, b"\xb8\0\0\0\0\xc3")
        result = vm.run(timeout=30, virtual_timeout=1)
        assert result.reason is hv.Reason.HALTED, result.message
        assert _word(vm, 0x80008) == 0
        assert 4999 - 200 < _word(vm, 0x80004) <= 4999


def test_a_translation_that_was_shot_down_is_not_used() -> None:
    """One vCPU moves a page under another one, tells it by an interrupt, and reuses the old frame after its answer."""
    rounds, pte = 400, 0x7000 + 8 * 0x100
    first = f"""
        mov ecx, {rounds}
        again:
        mov eax, ecx
        and eax, 1
        shl eax, 12
        add eax, 0x90000
        mov ebx, eax                # the page that it will see
        xor ebx, 0x1000             # the page that it sees now
        mov dword ptr [rax], 0x600d
        or eax, 7
        mov [{pte}], eax
        mov eax, 0x4001
        mov edx, {INTERRUPT}
        out dx, eax
        wait:
        pause
        cmp dword ptr [0x80000], 0
        je wait
        mov dword ptr [0x80000], 0
        mov dword ptr [rbx], 0xbad  # nobody looks here any more
        dec ecx
        jnz again
        mov dword ptr [0x80008], 1
        cli
        hlt
    """
    second = """
        sti
        again:
        inc dword ptr [0x8000c]
        cmp dword ptr [0x100000], 0x600d
        je right
        inc dword ptr [0x80004]
        right:
        cmp dword ptr [0x80008], 0
        je again
        cli
        hlt
    """
    handler = "invlpg [0x100000]\nmov dword ptr [0x80000], 1\niretq"
    with long_mode([first, second], handlers={0x40: handler}) as vm:
        table = b"".join((n << 12 | 7).to_bytes(8, "little") for n in range(512))
        vm.memory.write(0x5000, (0x6007).to_bytes(8, "little"))
        vm.memory.write(0x6000, (0x7007).to_bytes(8, "little"))
        vm.memory.write(0x7000, table)
        vm.memory.write(0x4000, (0x5007).to_bytes(8, "little"))
        vm.memory.write(pte, (0x91007).to_bytes(8, "little"))
        vm.memory.write(0x91000, (0x600D).to_bytes(4, "little"))
        for vcpu in vm.vcpus:
            vcpu.set("cr3", 0x4000)
        result = vm.run(timeout=30, virtual_timeout=1)
        assert result.reason is hv.Reason.HALTED, result.message
        assert _word(vm, 0x80004) == 0
        assert _word(vm, 0x8000C) > 2 * rounds


@pytest.mark.parametrize("cpus", [2, 4])
def test_the_tsc_never_runs_backwards_between_vcpus(cpus: int) -> None:
    """The test that Linux makes before it trusts the TSC (arch/x86/kernel/tsc_sync.c)."""
    take, give = LOCKS["ticket"]
    code = f"""
        mov ecx, 3000
        again:
        {take}
        rdtsc
        shl rdx, 32
        or rax, rdx
        mov rbx, [0x80010]
        mov [0x80010], rax
        {give}
        cmp rax, rbx
        jae fine
        lock inc dword ptr [0x80020]
        fine:
        dec ecx
        jnz again
    """
    with long_mode([code + HALT] * cpus) as vm:
        result = vm.run(timeout=30, virtual_timeout=1)
        assert result.reason is hv.Reason.HALTED, result.message
        assert _word(vm, 0x80020) == 0


def test_a_device_sees_time_pass_in_one_direction() -> None:
    with long_mode(["a: in al, 0x70\njmp a\n", "a: in al, 0x70\njmp a\n", "a: in al, 0x70\njmp a\n"]) as vm:
        seen: list[tuple[int, int]] = []

        @vm.traps.port_in(0x70)
        def look(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            seen.append((vm.clock.now_ns, vcpu.number))
            exit.value = 0
            return hv.HANDLED

        vm.run(timeout=30, virtual_timeout=0.002)
        assert {number for _, number in seen} == {0, 1, 2}
        assert all(first[0] <= second[0] for first, second in pairwise(seen))
