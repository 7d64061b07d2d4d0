"""The guest's debug registers: what DR7 arms, and the #DB that comes of it (AMD64 APM volume 2, 13.1)."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.vcpu.breakpoints import armed
from tests.core.bare import DATA, TF, addresses, bare, with_idt

CODE = 0x10000
EXECUTE, WRITE, PORT, ACCESS = range(4)
ONE, TWO, EIGHT, FOUR = 0, 1, 2, 3


def dr7(n: int, kind: int, length: int) -> int:
    return 1 << 2 * n | kind << 16 + 4 * n | length << 18 + 4 * n


def debugged(
    code: str, setup: dict[str, int], handler: str = "", **regs: int
) -> tuple[list[tuple[int, int]], hv.RunResult]:
    """(RIP, DR6 bits 3:0 and BS) of each #DB while code runs to a hypercall; DR6 is cleared each time."""
    seen: list[tuple[int, int]] = []
    with bare(code + "; vmmcall", **regs) as vm:
        for name, value in setup.items():
            vm.vcpu.set(name, value)
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))

        @vm.traps.exception(1)
        def debug(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            seen.append((vcpu.rip, vcpu.dr6 & 0x400F))
            vcpu.dr6 = 0xFFFF0FF0
            if len(seen) > 20:
                return hv.stop("too many")
            if vcpu.dr7 and seen[-1][1] & 0xF and exit.rip in {vcpu.get(f"dr{n}") for n in range(4)}:
                vcpu.rflags |= 1 << 16  # a debugger resumes with RF
            return hv.HANDLED

        result = vm.run(timeout=5, virtual_timeout=0.01)
    return seen, result


def test_an_execution_breakpoint_is_a_fault_before_the_instruction() -> None:
    seen, result = debugged("nop; nop; inc ebx; nop", {"dr0": CODE + 2, "dr7": dr7(0, EXECUTE, ONE)})
    assert seen == [(CODE + 2, 1)] and result.message == "end" and result.ebx == 1


def test_in_a_loop_it_comes_each_time() -> None:
    seen, result = debugged("mov ecx, 3; l: dec ecx; jnz l", {"dr2": CODE + 5, "dr7": dr7(2, EXECUTE, ONE)})
    assert seen == [(CODE + 5, 4)] * 3 and result.ecx == 0


def test_the_guest_arms_it_and_resumes_with_rf() -> None:
    """All inside the guest: MOV DR, a #DB handler that counts and sets RF in the image, IRET."""
    code = f"mov eax, {CODE + 0x40:#x}; mov dr1, rax; mov eax, {dr7(1, EXECUTE, ONE)}; mov dr7, rax; jmp target; "
    fill = "target: nop; inc ebx; vmmcall"
    padding = 0x40 - (addresses(code.replace("jmp target", "jmp .+0x40"))[-1] - CODE)
    with bare(code + "nop; " * padding + fill) as vm:
        with_idt(vm, {1: "inc esi; mov rdi, dr6; or dword ptr [rsp + 16], 0x10000; iretq"})
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
        for times in (1, 2):
            result = vm.run(timeout=5, virtual_timeout=0.01)
            assert (result.message, result.ebx, result.esi) == ("end", times, times), result.message
            assert result.rdi & 0xF == 2
            assert not result.rflags & 1 << 16
            vm.vcpu.rip = CODE + 0x40


@pytest.mark.parametrize(
    "code,kind,length,hit",
    [
        ("mov [rdi], al", WRITE, ONE, True),
        ("mov [rdi + 3], al", WRITE, FOUR, True),
        ("mov [rdi + 4], al", WRITE, FOUR, False),
        ("mov [rdi - 1], ax", WRITE, ONE, True),
        ("mov [rdi - 1], al", WRITE, ONE, False),
        ("mov al, [rdi]", WRITE, ONE, False),
        ("mov al, [rdi]", ACCESS, ONE, True),
        ("mov [rdi + 6], ax", ACCESS, EIGHT, True),
        ("add [rdi], al", WRITE, TWO, True),
        ("push rax", WRITE, EIGHT, False),
    ],
)
def test_a_data_breakpoint_is_a_trap_after_the_access(code: str, kind: int, length: int, hit: bool) -> None:
    full = f"nop; {code}; nop; nop"
    seen, result = debugged(full, {"dr3": DATA + 8, "dr7": dr7(3, kind, length)}, rdi=DATA + 8)
    assert seen == ([(addresses(full)[2], 8)] if hit else [])
    assert result.message == "end"


def test_the_access_is_made_once() -> None:
    with bare("inc dword ptr [rdi]; vmmcall", rdi=DATA) as vm:
        vm.vcpu.dr0, vm.vcpu.dr7 = DATA, dr7(0, WRITE, FOUR)
        with_idt(vm, {1: "inc esi; iretq"})
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
        assert vm.run(timeout=5).esi == 1
        assert vm.memory.read(DATA, 4) == b"\1\0\0\0"


READ_MODIFY_WRITE = {
    "add [rdi], rcx": 8, "adc dword ptr [rdi], ecx": 4, "inc word ptr [rdi]": 2, "not byte ptr [rdi]": 1,
    "xchg [rdi], rcx": 8, "lock xadd [rdi], rcx": 8, "cmpxchg [rdi], rcx": 8, "lock cmpxchg [rdi], rcx": 8,
    "cmpxchg8b [rdi]": 8, "bts qword ptr [rdi], 3": 8, "shl qword ptr [rdi], 3": 8, "sbb word ptr [rdi], 1": 2,
}  # fmt: skip


@pytest.mark.parametrize("base", [DATA + 0x40, DATA + 0x1000])  # within a page, and where one begins
@pytest.mark.parametrize("code", [*READ_MODIFY_WRITE, "cmpxchg16b [rdi]"])
def test_what_reads_and_writes_is_executed_once(code: str, base: int) -> None:
    size = READ_MODIFY_WRITE.get(code, 16)
    registers = {"rax": 0x0101010101010101, "rdx": 0x0101010101010101, "rcx": 0x1122334455667788, "rbx": 0xABCDEF}

    def run(at: int, control: int) -> tuple[int, bytes, list[int]]:
        with bare(f"{code}; vmmcall", rdi=at, **registers) as vm:
            vm.memory.write(base - 32, bytes([1]) * 64)
            vm.vcpu.dr0, vm.vcpu.dr7 = base, control
            traps = []
            vm.traps.exception(1, lambda vcpu, exit: traps.append(vcpu.rip) or hv.HANDLED)
            vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
            result = vm.run(timeout=5, virtual_timeout=0.01)
            assert result.message == "end"
            state = [vm.vcpu.get(name) for name in ("rax", "rbx", "rcx", "rdx", "rflags")]
            return len(traps), vm.memory.read(base - 32, 64), state

    for kind in (WRITE, ACCESS):
        for at in [base - 16, base] if size == 16 else range(base - size, base + 3):
            hits, *left = run(at, dr7(0, kind, TWO))
            assert left == list(run(at, 0)[1:]), hex(at)
            if kind == WRITE or at % size == 0:  # an unaligned read is made as the two aligned ones around it
                assert hits == (at < base + 2 and base < at + size), hex(at)


def test_repeated_stores_trap_after_the_element() -> None:
    seen, result = debugged("rep stosb", {"dr0": DATA + 2, "dr7": dr7(0, WRITE, ONE)}, rcx=4, rdi=DATA)
    assert seen == [(CODE, 1)] and result.rdi == DATA + 4


def test_two_breakpoints_at_one_place_set_both_bits() -> None:
    both = {"dr0": DATA, "dr1": DATA, "dr7": dr7(0, WRITE, ONE) | dr7(1, ACCESS, TWO)}
    seen, _ = debugged("mov [rdi], al; nop", both, rdi=DATA)
    assert seen == [(CODE + 2, 3)]


def test_each_breakpoint_says_anew_which_it_was_and_bs_stays() -> None:
    """APM volume 2, 13.1.1.3: B3 to B0 are of this #DB, nothing else in DR6 is cleared by the processor."""
    seen = []
    with bare("mov [rdi], al; mov [rdi + 8], al; nop; mov rax, dr0; vmmcall", rdi=DATA) as vm:
        vm.vcpu.dr0, vm.vcpu.dr1, vm.vcpu.dr2 = DATA, DATA + 8, CODE + 5
        vm.vcpu.dr6, vm.vcpu.dr7 = 0xFFFF4FF8, dr7(0, WRITE, ONE) | dr7(1, WRITE, ONE) | dr7(2, EXECUTE, ONE)

        @vm.traps.exception(1)
        def debug(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            seen.append((vcpu.rip, vcpu.dr6 & 0xE00F))
            if len(seen) == 3:
                vcpu.dr7 |= 1 << 13  # general detect, for the MOV
                vcpu.rflags |= 1 << 16
            return hv.HANDLED

        assert vm.run(timeout=5, virtual_timeout=0.01).reason is hv.Reason.CRASHED  # by that #DB, for want of an IDT
        assert (vm.vcpu.rip, vm.vcpu.dr6 & 0xE00F) == (CODE + 6, 0x6000)
    assert seen == [(CODE + 2, 0x4001), (CODE + 5, 0x4002), (CODE + 5, 0x4004)]


@pytest.mark.parametrize("mode,wide", [(32, "eax"), (64, "rax")])
def test_smsw_shows_as_much_of_cr0_as_its_operand_holds(mode: int, wide: str) -> None:
    uncached = f"mov {wide}, cr0; or eax, 0x60000000; mov cr0, {wide}; mov {wide}, cr0"
    result = hv.run_asm(f"{uncached}; mov ecx, -1; mov edx, -1; smsw ecx; smsw dx; hlt", mode=mode)
    assert result.eax & 1 << 30
    assert result.ecx == result.eax
    assert result.edx == 0xFFFF0000 | result.eax & 0xFFFF


def test_with_single_step_there_is_one_trap_with_both_bits() -> None:
    seen, _ = debugged("mov [rdi], al; nop", {"dr0": DATA, "dr7": dr7(0, WRITE, ONE)}, rdi=DATA, rflags=2 | TF)
    assert seen[:2] == [(CODE + 2, 0x4001), (CODE + 3, 0x4000)]


def test_an_instruction_that_faults_has_no_trap() -> None:
    with bare("push qword ptr [rdi]; vmmcall", rdi=DATA, rsp=0x40_0000_0000) as vm:
        vm.vcpu.dr0, vm.vcpu.dr7 = DATA, dr7(0, ACCESS, EIGHT)
        reasons = []
        vm.traps.exception(None, lambda vcpu, exit: reasons.append(exit.vector) or hv.stop("fault"))
        vm.run(timeout=5, virtual_timeout=0.01)
    assert reasons == [14]


def test_disarmed_breakpoints_cost_nothing() -> None:
    with bare("mov eax, 0; mov dr7, rax; mov ecx, 1000; l: mov [rdi], al; loop l; vmmcall", rdi=DATA) as vm:
        vm.vcpu.dr0, vm.vcpu.dr7 = DATA, dr7(0, WRITE, ONE)
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
        result = vm.run(timeout=5)
    assert "memory" not in result.exits and "exception" not in result.exits


def test_beside_the_hosts_own_traps() -> None:
    order = []
    with bare("nop; inc ebx; vmmcall") as vm:
        vm.vcpu.dr0, vm.vcpu.dr7 = CODE + 1, dr7(0, EXECUTE, ONE)
        vm.traps.execute(CODE + 1, lambda vcpu, exit: order.append("execute"), mode="observe")

        @vm.traps.exception(1)
        def debug(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            order.append("debug")
            vcpu.rflags |= 1 << 16
            return hv.RETRY

        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
        assert vm.run(timeout=5, virtual_timeout=0.01).ebx == 1
    assert order == ["execute", "debug", "execute"]


def test_what_dr7_means() -> None:
    with bare("nop") as vm:
        vm.vcpu.dr0, vm.vcpu.dr1, vm.vcpu.dr2 = 0x1003, 0x2007, 0x3000
        vm.vcpu.dr7 = dr7(0, WRITE, FOUR) | dr7(1, ACCESS, EIGHT) | dr7(2, EXECUTE, ONE)
        found = armed(vm.vcpu)
        assert found.data == ((range(0x1000, 0x1004), "w", 1), (range(0x2000, 0x2008), "rw", 2))
        assert found.execution == {0x3000: 4}
        vm.vcpu.dr7 = 0
        assert not armed(vm.vcpu).data and not armed(vm.vcpu).execution


def test_gd_raises_db_before_the_access() -> None:
    with bare("mov rax, dr0; vmmcall") as vm:
        vm.vcpu.dr7 = 1 << 13
        with_idt(vm, {1: "mov rsi, [rsp]; mov rdi, dr6; vmmcall"})
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
        result = vm.run(timeout=5)
        assert result.rsi == CODE and result.rdi & 1 << 13
        assert not vm.vcpu.dr7 & 1 << 13


DE = 1 << 3


@pytest.mark.parametrize(
    "code,length,cr4,hit",
    [
        ("out 0x80, al", ONE, DE, True),
        ("in al, 0x80", ONE, DE, True),
        ("out 0x80, al", ONE, 0, False),  # without CR4.DE the type is undefined
        ("out 0x81, al", ONE, DE, False),
        ("out 0x81, al", TWO, DE, True),
        ("out 0x7f, ax", ONE, DE, True),
        ("in eax, 0x7c", ONE, DE, False),
        ("in eax, 0x7d", ONE, DE, True),
        ("mov dx, 0x83; out dx, al", FOUR, DE, True),
        ("mov dx, 0x80; mov esi, edi; outsb", ONE, DE, True),
    ],
)
def test_a_port_breakpoint_is_a_trap_behind_the_instruction(code: str, length: int, cr4: int, hit: bool) -> None:
    """Type 2 in DR7 (AMD64 APM volume 2, 13.1.1.4): any access that touches the range, once it is done."""
    done = []
    with bare(f"{code}; nop; hlt", rdi=DATA, al=7) as vm:
        vm.vcpu.cr4 |= cr4
        vm.vcpu.dr1, vm.vcpu.dr7 = 0x80, dr7(1, PORT, length)
        seen = []

        @vm.traps.exception(1)
        def debug(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            seen.append((vcpu.rip, vcpu.dr6 & 0xF, len(done)))
            return hv.HANDLED

        vm.traps.port_out(range(0x70, 0x90), lambda vcpu, exit: done.append(exit.port), mode="observe")
        vm.traps.port_in(range(0x70, 0x90), lambda vcpu, exit: done.append(exit.port), mode="observe")
        assert vm.run(timeout=5).reason is hv.Reason.HALTED
        assert len(done) == 1, "the access is made once"
        assert seen == ([(addresses(f"{code}; nop; hlt")[-3], 2, 1)] if hit else [])


def test_a_port_breakpoint_in_the_guest_itself() -> None:
    """Armed by MOV DR, delivered through the guest's IDT, and each element of REP OUTS counts."""
    code = (
        f"mov rax, cr4; or eax, {DE}; mov cr4, rax; mov eax, 0x80; mov dr0, rax; mov eax, {dr7(0, PORT, ONE)}; "
        f"mov dr7, rax; mov esi, {DATA}; mov edx, 0x80; mov ecx, 5; rep outsb; hlt"
    )
    with bare(code) as vm:
        with_idt(vm, {1: "inc ebx; iretq"})
        result = vm.run(timeout=5)
        assert (result.reason, result.rbx, result.rcx) == (hv.Reason.HALTED, 5, 0)


def test_an_iret_that_is_intercepted_reads_what_is_watched() -> None:
    """The breakpoint in DR1 has IRET intercepted, and that in DR0 watches its frame: each waited for the other."""
    result = hv.run_asm(
        """
        mov rcx, rsp; mov rbx, rsp; sub rbx, 40; mov dr0, rbx; mov eax, 0x12345; mov dr1, rax
        push 0x10; push rcx; pushfq; push 8; mov eax, after; push rax
        mov eax, 0xb0405; mov dr7, rax
        iretq
after:  hlt
        """,
        timeout=5,
    )
    assert result.reason is hv.Reason.CRASHED, result.message  # of #DB, behind the IRET: there is no IDT
    assert result.exits["iret"] == 1


@pytest.mark.parametrize(("code", "kind"), [("pushfq", "pushf"), ("sgdt [rsp - 10]", "sgdt"), ("iretq", "iret")])
def test_a_handler_is_asked_once_about_an_instruction_that_is_watched(code: str, kind: str) -> None:
    asked = []

    def setup(vm: hv.VM) -> None:
        getattr(vm.traps, kind)(lambda vcpu, exit: asked.append(exit.rip), mode="observe")
        vm.traps.exception(1)(lambda vcpu, exit: hv.HANDLED)

    source = f"""
        mov rcx, rsp; push 0x10; push rcx; pushfq; push 8; mov eax, after; push rax; mov rsp, rcx
        lea rbx, [rsp - 8]; mov dr0, rbx; mov eax, 0xb0001; mov dr7, rax; lea rsp, [rsp - {40 if kind == "iret" else 0}]
        {code}
after:  hlt
        """
    if kind == "pushf":
        source = source.replace("pushfq; push 8", "push 2; push 8")
    result = hv.run_asm(source, timeout=5, setup=setup)
    assert (result.reason, len(asked), result.exits["exception"]) == (hv.Reason.HALTED, 1, 1), result.message
