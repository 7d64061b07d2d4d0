"""What one vCPU does to another: startup, INIT, interrupts and NMIs; and waking from HLT."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.core.smp import TRAMPOLINE, long_mode, machine

HALT = "cli\nhlt\n"
SEND = "mov eax, {value:#x}\nmov dx, {port:#x}\nout dx, eax\n"
INIT, STARTUP, INTERRUPT, NMI = range(0x100, 0x104)


def send(port: int, number: int, vector: int = 0) -> str:
    """Code, for 16-bit mode."""
    return SEND.format(port=port, value=vector << 8 | number)


def _word(vm: hv.VM, address: int) -> int:
    return int.from_bytes(vm.memory.read(address, 4), "little")


def test_a_startup_ipi_begins_in_real_mode_at_the_page_of_its_vector() -> None:
    ap = "mov [cs:0x100], cs\ncall here\nhere: pop bx\nsub bx, here\nmov [cs:0x102], bx\nmov [cs:0x104], sp\n" + HALT
    with machine(send(STARTUP, 1, 0x8) + HALT, 2, ap) as vm:
        vm.vcpus[1].set("rsp", 0x6000)
        assert vm.run(timeout=10).reason is hv.Reason.HALTED
        words = [_word(vm, TRAMPOLINE + at) & 0xFFFF for at in (0x100, 0x102, 0x104)]
        assert words == [TRAMPOLINE >> 4, 0, 0x6000]
        vcpu = vm.vcpus[1]
        assert (vcpu.cs.selector, vcpu.cs.base, vcpu.cr0 & 1, vcpu.mode) == (0x800, 0x8000, 0, 16)


@pytest.mark.parametrize("vector", [-1, 0x100])
def test_a_startup_vector_is_a_byte(vector: int) -> None:
    with machine(HALT, 2) as vm, pytest.raises(ValueError, match="a vector is 0 to 0xff"):
        vm.vcpus[1].startup(vector)


def test_a_startup_ipi_to_a_running_vcpu_does_nothing() -> None:
    ap = "lock inc word ptr [cs:0x100]\nwait: pause\ncmp word ptr [cs:0x102], 0\nje wait\n" + HALT
    bsp = send(STARTUP, 1, 8) + "mov cx, 5000\nspin: loop spin\n" + send(STARTUP, 1, 8)
    bsp += f"xor ax, ax\nmov ds, ax\nmov cx, 5000\nagain: loop again\nmov word ptr [{TRAMPOLINE + 0x102}], 1\n"
    bsp += HALT
    with machine(bsp, 2, ap) as vm:
        assert vm.run(timeout=10).reason is hv.Reason.HALTED
        assert _word(vm, TRAMPOLINE + 0x100) == 0x1_0001


def test_init_stops_a_running_vcpu_until_it_is_started_again() -> None:
    ap = "inc word ptr [cs:0x100]\nmov eax, 0x1234\nforever: inc dword ptr [cs:0x108]\njmp forever\n"
    bsp = send(STARTUP, 1, 8) + "mov ecx, 200000\na: dec ecx\njnz a\n" + send(INIT, 1)
    bsp += f"xor ax, ax\nmov ds, ax\nmov eax, [{TRAMPOLINE + 0x108}]\nmov ecx, 200000\nb: dec ecx\njnz b\n"
    bsp += f"sub eax, [{TRAMPOLINE + 0x108}]\nmov [0x600], eax\n" + send(STARTUP, 1, 8)
    bsp += f"c: pause\ncmp word ptr [{TRAMPOLINE + 0x100}], 2\njne c\n" + send(INIT, 1) + HALT
    with machine(bsp, 2, ap) as vm:
        vm.vcpus[1].msr[0xC0000082] = 0x1234
        vm.vcpus[1].xmm3 = 5
        result = vm.run(timeout=10, virtual_timeout=1)
        assert result.reason is hv.Reason.HALTED, result.message
        assert _word(vm, TRAMPOLINE + 0x108) > 0
        assert _word(vm, 0x600) == 0
        assert vm.vcpus[1].activity == "waiting-for-startup"
        assert (vm.vcpus[1].rax, vm.vcpus[1].rdx, vm.vcpus[1].rip) == (0, 0x830F10, 0xFFF0)
        assert (vm.vcpus[1].msr[0xC0000082], vm.vcpus[1].xmm3) == (0x1234, 5)  # INIT keeps them


def test_init_of_itself_restarts_the_first_vcpu_and_parks_another() -> None:
    ap = send(INIT, 1) + "jmp next\nnext: lock inc word ptr [cs:0x100]\n" + HALT
    with machine(send(STARTUP, 1, 8) + HALT, 2, ap) as vm:
        assert vm.run(timeout=10).reason is hv.Reason.HALTED
        assert _word(vm, TRAMPOLINE + 0x100) & 0xFFFF == 0
        assert vm.vcpus[1].activity == "waiting-for-startup"
    with machine(send(INIT, 0) + HALT, 1) as vm:
        vm.traps.execute(0xFFFFFFF0)(lambda vcpu, exit: hv.stop("the reset vector"))
        result = vm.run(timeout=10, virtual_timeout=0.1)
        assert (result.reason, result.message) == (hv.Reason.STOPPED, "the reset vector")


def test_a_halted_vcpu_is_woken_by_an_interrupt_and_its_sender_by_the_answer() -> None:
    rounds = 500
    ping = f"""
        mov ecx, {rounds}
        next:
        mov edx, {INTERRUPT}
        mov eax, 0x4001
        out dx, eax
        sti
        hlt
        cli
        dec ecx
        jnz next
        mov edx, {INTERRUPT}
        mov eax, 0x4101
        out dx, eax
        cli
        hlt
    """
    pong = "forever: sti\nhlt\ncli\njmp forever\n"
    answer = f"push rax\npush rdx\ninc dword ptr [0x80000]\nmov edx, {INTERRUPT}\nmov eax, 0x4200\nout dx, eax\n"
    handlers = {
        0x40: answer + "pop rdx\npop rax\niretq",
        0x41: "cli\nhlt",
        0x42: "inc dword ptr [0x80004]\niretq",
    }
    with long_mode([ping, pong], handlers=handlers) as vm:
        result = vm.run(timeout=30, virtual_timeout=1)
        assert result.reason is hv.Reason.HALTED, result.message
        assert (_word(vm, 0x80000), _word(vm, 0x80004)) == (rounds, rounds)
        assert result.virtual_s < rounds * 20e-6  # neither waited for the other's slice to end


def test_an_nmi_reaches_the_vcpu_it_was_sent_to_with_interrupts_off() -> None:
    bsp = f"mov edx, {NMI}\nmov eax, 1\nout dx, eax\nwait: pause\ncmp dword ptr [0x80004], 1\njne wait\n" + HALT
    ap = "cli\nforever: jmp forever\n"
    handler = f"mov edx, {NMI}\nin eax, dx\ninc dword ptr [0x80000 + 4 * rax]\ncli\nhlt"
    with long_mode([bsp, ap], handlers={2: handler}) as vm:
        result = vm.run(timeout=10, virtual_timeout=0.1)
        assert result.reason is hv.Reason.HALTED, result.message
        assert (_word(vm, 0x80000), _word(vm, 0x80004)) == (0, 1)
        assert vm.vcpus[1].registers.nmi_blocked


def test_an_nmi_wakes_a_halted_vcpu() -> None:
    with long_mode([HALT, HALT + "mov dword ptr [0x80000], 7\n" + HALT], handlers={2: "iretq"}) as vm:
        assert vm.run(timeout=10).reason is hv.Reason.HALTED
        vm.vcpus[1].nmi()
        assert vm.run(timeout=10).reason is hv.Reason.HALTED
        assert _word(vm, 0x80000) == 7
        assert not vm.vcpus[1].registers.nmi_blocked


def test_the_run_is_idle_only_when_every_vcpu_is() -> None:
    with long_mode(["sti\nhlt\n", "sti\nhlt\n"]) as vm:
        result = vm.run(timeout=10)
        assert result.reason is hv.Reason.IDLE, result.message
        assert [vcpu.activity for vcpu in vm.vcpus] == ["halted", "halted"]
    with long_mode(["sti\nhlt\n", "spin: jmp spin\n"]) as vm:
        assert vm.run(timeout=10, virtual_timeout=0.1).reason is hv.Reason.IDLE
    with long_mode([HALT, "cli\nagain: inc rax\njmp again\n"]) as vm:
        assert vm.run(timeout=10, virtual_timeout=0.1).reason is hv.Reason.VIRTUAL_TIMEOUT
    with long_mode([HALT, "cli\nspin: jmp spin\n"]) as vm:
        assert vm.run(timeout=10, virtual_timeout=0.1).reason is hv.Reason.HALTED


def test_a_triple_fault_names_its_vcpu() -> None:
    with long_mode([HALT, "lidt [0x80000]\nud2\n"]) as vm:
        result = vm.run(timeout=10)
        assert result.reason is hv.Reason.CRASHED
        assert result.message.startswith("vCPU 1: triple fault")
        assert vm.current is vm.vcpus[1]
        assert result.crash is not None and "vcpu 1" in str(result.crash)


def test_handlers_see_the_vcpu_that_left_and_its_own_registers() -> None:
    with long_mode(["mov ebx, 10\ncpuid\n" + HALT, "mov ebx, 11\ncpuid\n" + HALT, "mov ebx, 12\ncpuid\n" + HALT]) as vm:
        seen = []

        @vm.traps.cpuid(mode="observe")
        def look(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            assert vm.current is vcpu
            seen.append((vcpu.number, vcpu.rbx, vcpu.cs.base, exit.rip & ~0xFFF))

        assert vm.run(timeout=10).reason is hv.Reason.HALTED
        assert sorted(seen) == [(n, 10 + n, 0, 0x10000 + 0x1000 * n) for n in range(3)]


def test_another_vcpus_memory_is_read_through_its_own_page_tables() -> None:
    """While one is in the middle of a port access, too."""
    with long_mode(["in al, 0x80\n" + HALT, "forever: pause\njmp forever\n"]) as vm:
        vm.memory.write(0x40000, (0x41007).to_bytes(8, "little"))
        vm.memory.write(0x41000, (0x42007).to_bytes(8, "little"))
        vm.memory.write(0x42000, (0x43007).to_bytes(8, "little"))
        vm.memory.write(0x43000, b"".join((page << 12 | 7).to_bytes(8, "little") for page in [0x80, *range(1, 512)]))
        vm.memory.write(0x80000, b"by another table")
        vm.memory.write(0, b"one to one")
        vm.vcpus[1].set("cr3", 0x40000)
        found = []

        @vm.traps.port_in(0x80)
        def look(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            found.extend((vm.vcpus[0].read(0, 10), vm.vcpus[1].read(0, 16)))
            exit.value = 0x55
            return hv.HANDLED

        vm.run(timeout=10, virtual_timeout=0.001)
        assert found == [b"one to one", b"by another table"]
        assert vm.vcpus[0].al == 0x55


def test_single_steps_are_one_vcpus_own() -> None:
    with long_mode(["mov eax, 1\nmov eax, 2\n" + HALT, "mov ebx, 1\nmov ebx, 2\n" + HALT]) as vm:
        assert vm.vcpus[1].step() == 1
        assert (vm.vcpus[1].rbx, vm.vcpus[0].rax) == (1, 0)
        assert vm.vcpus[0].step(2) == 2
        assert (vm.vcpus[1].rbx, vm.vcpus[0].rax) == (1, 2)
        assert vm.run(timeout=10).reason is hv.Reason.HALTED
        assert (vm.vcpus[1].rbx, vm.vcpus[0].rax) == (2, 2)


def test_breakpoints_are_one_vcpus_own() -> None:
    """DR0 of the second vCPU is hit by it alone, though both run the same code."""
    handlers = {1: "inc dword ptr [0x80000]\nbts dword ptr [rsp + 16], 16\niretq"}  # resume with RF
    code = "mov rax, {arm}\nmov dr7, rax\nmov ecx, 2000\nlea rbx, [rip + 0]\ncall 0x1f000\n" + HALT
    with long_mode([code.format(arm=0x400), code.format(arm=0x401)], handlers=handlers) as vm:
        vm.memory.write(0x1F000, assemble("again: inc edx\ndec ecx\njnz again\nret", origin=0x1F000, mode=64).code)
        vm.vcpus[0].set("dr0", 0x1F000)
        vm.vcpus[1].set("dr0", 0x1F000)
        result = vm.run(timeout=20, virtual_timeout=0.1)
        assert result.reason is hv.Reason.HALTED, result.message
        assert _word(vm, 0x80000) > 0
        assert (vm.vcpus[0].dr6 & 1, vm.vcpus[1].dr6 & 1) == (0, 1)


def test_a_reset_leaves_one_vcpu_running() -> None:
    with machine(send(STARTUP, 1, 8) + "wait: pause\njmp wait\n", 2, "forever: pause\njmp forever\n") as vm:
        vm.run(timeout=10, virtual_timeout=0.001)
        assert vm.vcpus[1].activity == "running"
        vm.reset()
        assert [vcpu.activity for vcpu in vm.vcpus] == ["running", "waiting-for-startup"]
        assert vm.run(timeout=10, virtual_timeout=0.001).reason is hv.Reason.VIRTUAL_TIMEOUT
        assert vm.vcpus[1].activity == "running"


def test_the_wall_clock_shares_the_pcpu_too() -> None:
    count = "mov ecx, 200000\na: lock inc dword ptr [0x80000]\ndec ecx\njnz a\nlock inc dword ptr [0x80004]\n"
    wait = "w: pause\ncmp dword ptr [0x80004], 3\njne w\n"
    with long_mode([count + wait + HALT] * 3, clock="wall") as vm:
        result = vm.run(timeout=20)
        assert result.reason is hv.Reason.HALTED, result.message
        assert _word(vm, 0x80000) == 600000


def test_a_clock_that_is_read_later_shows_no_less() -> None:
    """Each vCPU has its own progress; what one has seen of the time, another one must not fall behind."""
    read = "rdtsc; shl rdx, 32; or rax, rdx"
    first = f"mov ecx, 20000; burn: dec ecx; jnz burn; {read}; mov [0x80000], rax; mov dword ptr [0x80010], 1; cli; hlt"
    second = f"wait: cmp dword ptr [0x80010], 1; jne wait; {read}; mov [0x80008], rax; cli; hlt"
    with long_mode([first, second]) as vm:
        assert vm.run(timeout=60).reason is hv.Reason.HALTED
        earlier, later = (int.from_bytes(vm.memory.read(at, 8), "little") for at in (0x80000, 0x80008))
    assert 50_000 < earlier <= later
