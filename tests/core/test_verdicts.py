"""What each verdict does for each kind of exit."""

from __future__ import annotations

from typing import Any

import pytest

import hypervisor as hv
from tests.core.bare import DATA, SYSTEM, addresses, bare, with_idt

EXITING = {kind: code for kind, code in SYSTEM.items() if kind != "iret"} | {
    "hypercall": "vmmcall",
    "svm": "vmload rax",
    "monitor": "monitor",
    "mwait": "mwait",
    "rdpmc": "rdpmc",
    "int_n": "int 0x40",
    "syscall": "syscall",
    "ltr": "ltr ax",
    "iret": "iretq",
    "hlt": "hlt",
}
"""64-bit code that makes each kind of exit, the last instruction being the one."""
UNDEFINED = ("hypercall", "svm", "monitor", "mwait")
WRITTEN = 0x5A
MARK = "mov ebp, 0x1234; vmmcall"


def trap(vm: hv.VM, kind: str, fn: Any, **options: Any) -> None:
    getattr(vm.traps, kind)(**options)(fn)


def run(kind: str, verdict: Any, code: str | None = None, **regs: int) -> tuple[hv.RunResult, int]:
    """Run an instruction whose handler gives ``verdict``, then a hypercall: the result, and how often it was asked."""
    asked = 0
    with bare(f"{code or EXITING[kind]}; {MARK}", **regs) as vm:
        with_idt(vm, {n: "mov edi, 1; vmmcall" for n in (6, 13, 0x40)})
        if kind != "hypercall":
            vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))

        def handler(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            nonlocal asked
            asked += 1
            if kind == "hypercall" and asked == 2:
                return hv.stop("end")
            return verdict(vcpu, exit) if callable(verdict) else verdict

        trap(vm, kind, handler)
        result = vm.run(timeout=5, virtual_timeout=0.01)
    return result, asked


@pytest.mark.parametrize("kind", EXITING)
def test_handled_goes_on_after_the_instruction(kind: str) -> None:
    def answer(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        if exit.kind.name == "RDPMC":
            exit.value = 0
        return hv.HANDLED

    result, asked = run(kind, answer)
    assert (result.message, result.ebp) == ("end", 0x1234), result.message
    assert asked == (2 if kind == "hypercall" else 1)


@pytest.mark.parametrize("kind", EXITING)
def test_pass_is_the_built_in_behaviour(kind: str) -> None:
    result, _ = run(kind, hv.PASS, rcx=0xC0000080)
    if kind == "hlt":
        assert result.reason is hv.Reason.HALTED
    elif kind in ("int_n", "rdpmc", "ltr", *UNDEFINED):
        assert result.message == "end" and result.edi == 1  # a handler of the guest's
    elif kind in ("iret", "syscall"):
        assert result.reason in (hv.Reason.CRASHED, hv.Reason.STOPPED, hv.Reason.VIRTUAL_TIMEOUT)
    else:
        assert (result.message, result.ebp) == ("end", 0x1234), result.message


@pytest.mark.parametrize("kind", EXITING)
def test_inject_enters_the_guests_handler_at_the_instruction(kind: str) -> None:
    result, asked = run(kind, hv.inject(13, 0x18))
    assert result.message == "end" and result.edi == 1
    assert asked == (2 if kind == "hypercall" else 1)


@pytest.mark.parametrize("kind", EXITING)
def test_stop_leaves_the_guest_before_the_instruction(kind: str) -> None:
    with bare(f"{EXITING[kind]}; {MARK}") as vm:
        rips = []

        def handler(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            rips.append(exit.rip)
            return hv.stop(f"at {exit.kind.name.lower()}")

        trap(vm, kind, handler)
        for _ in range(2):
            result = vm.run(timeout=5)
            assert result.reason is hv.Reason.STOPPED and result.message == f"at {kind}"
            assert vm.vcpu.rip == rips[-1]
        assert rips[0] == rips[1]


@pytest.mark.parametrize("kind", EXITING)
def test_retry_executes_the_instruction_again(kind: str) -> None:
    times = 0

    def answer(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        nonlocal times
        times += 1
        return hv.RETRY if times < 3 else hv.stop("third")

    with bare(EXITING[kind]) as vm:
        trap(vm, kind, answer)
        assert vm.run(timeout=5).message == "third"
    assert times == 3


@pytest.mark.parametrize("kind", EXITING)
def test_the_record_names_the_instruction(kind: str) -> None:
    seen: list[tuple[int, bytes]] = []

    def look(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        seen.append((exit.length, exit.instruction))
        assert exit.kind.name.lower() == kind
        assert kind in repr(exit).lower()
        return hv.stop("seen")

    with bare(EXITING[kind]) as vm:
        trap(vm, kind, look)
        vm.run(timeout=5)
        places = addresses(EXITING[kind])
        end = places[-1]
        (length, instruction), start = seen[0], vm.vcpu.rip
        assert start == places[-2] and length == end - start
        assert instruction == vm.memory.read(start, length)


# --- results ----------------------------------------------------------------------------------------------------------

RESULTS = {
    "rdmsr": ("rdmsr", ("eax", WRITTEN)),
    "port_in": ("in al, 0x60", ("al", WRITTEN)),
    "mmio_read": ("mov al, [0xd0000000]", ("al", WRITTEN)),
    "cr_read": ("mov rax, cr4", ("rax", WRITTEN)),
    "dr_read": ("mov rax, dr1", ("rax", WRITTEN)),
    "smsw": ("smsw eax", ("eax", WRITTEN)),
    "sldt": ("sldt eax", ("eax", WRITTEN)),
    "str": ("str eax", ("eax", WRITTEN)),
    "rdtsc": ("rdtsc", ("eax", WRITTEN)),
    "rdtscp": ("rdtscp", ("eax", WRITTEN)),
    "rdpmc": ("rdpmc", ("eax", WRITTEN)),
    "rdrand": ("rdrand eax", ("eax", WRITTEN)),
    "rdseed": ("rdseed eax", ("eax", WRITTEN)),
}


def result_of(kind: str, code: str, handler: Any) -> hv.RunResult:
    def setup(vm: hv.VM) -> None:
        if handler is not None:
            trap(vm, kind, handler)

    return hv.run_asm(f"mov ecx, 0xc0000080; {code}; hlt", setup=setup)


@pytest.mark.parametrize("kind", RESULTS)
def test_a_written_field_is_the_result(kind: str) -> None:
    def write(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        exit.value = WRITTEN
        return hv.HANDLED

    code, (register, value) = RESULTS[kind]
    result = result_of(kind, code, write)
    assert result.reason is hv.Reason.HALTED and getattr(result, register) == value


@pytest.mark.parametrize("kind", [kind for kind in RESULTS if kind not in ("rdpmc", "rdtsc", "rdtscp")])
def test_an_unwritten_field_is_the_built_in_answer(kind: str) -> None:
    code, (register, _) = RESULTS[kind]
    handled = result_of(kind, code, lambda vcpu, exit: hv.HANDLED)
    native = result_of(kind, code, None)
    assert getattr(handled, register) == getattr(native, register)


def test_unwritten_time_is_the_clock() -> None:
    def setup(vm: hv.VM) -> None:
        vm.traps.rdtsc(lambda vcpu, exit: hv.HANDLED)

    result = hv.run_asm("rdtsc; hlt", setup=setup)
    assert 0 < result.eax < 10_000


def test_cpuid_mixes_written_and_built_in_registers() -> None:
    def ebx(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        exit.ebx = 7
        return hv.HANDLED

    def setup(vm: hv.VM) -> None:
        vm.traps.cpuid(ebx, leaf=0)

    plain = hv.run_asm("xor eax, eax; cpuid; hlt")
    mixed = hv.run_asm("xor eax, eax; cpuid; hlt", setup=setup)
    assert mixed.ebx == 7 and (mixed.eax, mixed.ecx, mixed.edx) == (plain.eax, plain.ecx, plain.edx)


def test_an_unwritten_result_that_does_not_exist_is_an_exception() -> None:
    result, _ = run("rdmsr", hv.HANDLED, code="mov ecx, 0x5000; rdmsr")
    assert result.edi == 1


def test_a_result_that_is_no_number_names_the_mistake() -> None:
    def write(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        exit.value = "five"
        return hv.HANDLED

    result = result_of("port_in", "in al, 0x60", write)
    assert result.reason is hv.Reason.HOST_ERROR and "whole number" in result.message


@pytest.mark.parametrize("kind", ["smsw", "sldt", "str"])
def test_a_word_in_memory(kind: str) -> None:
    def write(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        exit.value = 0x12345678 if kind == "smsw" else 0x5678
        return hv.HANDLED

    with bare(f"mov qword ptr [{DATA:#x}], -1; {kind} [{DATA:#x}]; hlt") as vm:
        trap(vm, kind, write)
        vm.run(timeout=5)
        assert vm.memory.read(DATA, 4) == b"\x78\x56\xff\xff"


OPERANDS = [(f"{kind} [rax]", False) for kind in ("lmsw", "smsw", "sldt", "lgdt", "sgdt")]


@pytest.mark.parametrize("code,handled", [*OPERANDS, ("lmsw [rax]", True), ("smsw [rax]", True), ("sldt [rax]", True)])
def test_an_operand_that_is_not_mapped_is_the_guests_fault(code: str, handled: bool) -> None:
    kind = code.split()[0]
    with bare(f"{code}; hlt", rax=0x40_0000_0000) as vm:
        with_idt(vm, {14: "mov rsi, cr2; mov edi, [rsp]; vmmcall"})
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
        trap(vm, kind, lambda vcpu, exit: hv.HANDLED if handled else hv.PASS)
        result = vm.run(timeout=5)
    assert result.message == "end", result.message
    assert result.rsi == 0x40_0000_0000
    assert result.edi == (0 if kind in ("lmsw", "lgdt") else 2)


# --- values that are checked and stored -------------------------------------------------------------------------------


def test_cr_write_stores_what_the_handler_chose_if_hardware_would() -> None:
    def setup(value: int) -> Any:
        def register(vm: hv.VM) -> None:
            def choose(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
                exit.value = value
                return hv.HANDLED

            vm.traps.cr_write(4, choose)

        return register

    assert hv.run_asm("mov cr4, rax; mov rbx, cr4; hlt", setup=setup(0x6A0)).rbx == 0x6A0
    assert hv.run_asm("mov cr4, rax; hlt", setup=setup(1 << 40)).reason is hv.Reason.CRASHED  # #GP without an IDT


def test_wrmsr_handled_stores_nothing_and_pass_stores_a_changed_value() -> None:
    seen = []

    def setup(verdict: hv.Verdict) -> Any:
        def register(vm: hv.VM) -> None:
            @vm.traps.wrmsr(0xC0000102)
            def write(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
                seen.append(exit.value)
                exit.value = 0x77
                return verdict

        return register

    code = "mov ecx, 0xc0000102; mov eax, 5; xor edx, edx; wrmsr; rdmsr; hlt"
    assert hv.run_asm(code, setup=setup(hv.HANDLED)).eax == 0
    assert hv.run_asm(code, setup=setup(hv.PASS)).eax == 0x77
    assert seen == [5, 5]


def test_port_out_passes_a_changed_value_to_the_device() -> None:
    written = []

    class Sink:
        name = "sink"

        def read(self, offset: int, size: int) -> int:
            return 0

        def write(self, offset: int, size: int, value: int) -> None:
            written.append(value)

        def reset(self) -> None: ...

        def state(self) -> object:
            return None

        def restore(self, state: object) -> None: ...

    with bare("mov al, 5; out 0x70, al; out 0x71, al; out 0x72, al; hlt") as vm:
        vm.attach(Sink(), ports=range(0x70, 0x73))

        @vm.traps.port_out(0x71)
        def change(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            exit.value = 6
            return hv.PASS

        vm.traps.port_out(0x72, lambda vcpu, exit: hv.HANDLED)
        vm.run(timeout=5)
    assert written == [5, 6]


# --- exceptions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [16, 32, 64])
def test_int3_is_exception_3(mode: int) -> None:
    seen = []

    def setup(vm: hv.VM) -> None:
        vm.traps.int_n(lambda vcpu, exit: hv.stop("int_n"))

        @vm.traps.exception(3)
        def breakpoint_(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            seen.append((exit.rip, vcpu.rip, exit.length))
            return hv.HANDLED

    result = hv.run_asm("int3; int3; hlt", mode=mode, setup=setup)
    assert result.reason is hv.Reason.HALTED
    start = 0 if mode == 16 else 0x10000
    assert seen == [(start, start, 1), (start + 1, start + 1, 1)]


def test_into_is_exception_4_and_int1_exception_1() -> None:
    seen = []

    def setup(vm: hv.VM) -> None:
        for vector in (1, 4):

            def note(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
                seen.append(exit.vector)
                return hv.HANDLED

            vm.traps.exception(vector, note)

    code = "into; mov al, 0x7f; add al, 1; into; .byte 0xf1; hlt"
    assert hv.run_asm(code, mode=32, setup=setup).reason is hv.Reason.HALTED
    assert seen == [4, 1]


@pytest.mark.parametrize("listen", [False, True])
def test_int3_is_delivered_after_the_instruction(listen: bool) -> None:
    with bare("int3; hlt") as vm:
        with_idt(vm, {3: "mov rsi, [rsp]; vmmcall"})
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))
        if listen:
            vm.traps.exception(3, lambda vcpu, exit: hv.PASS)
        assert vm.run(timeout=5).rsi == 0x10001


def test_a_page_fault_that_the_host_repairs_leaves_cr2_alone() -> None:
    def setup(vm: hv.VM) -> None:
        vm.vcpu.cr2 = 0x1111

        @vm.traps.exception(14)
        def repair(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            assert exit.address == 0x40_0000_0000 and exit.error_code == 0
            vcpu.rbx = 0x80000
            return hv.RETRY

    result = hv.run_asm("mov eax, [rbx]; mov rcx, cr2; hlt", regs={"rbx": 0x40_0000_0000}, setup=setup)
    assert result.reason is hv.Reason.HALTED and result.rcx == 0x1111


def test_a_swallowed_fault_goes_on_where_the_handler_says() -> None:
    def setup(vm: hv.VM) -> None:
        @vm.traps.exception(6)
        def skip(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            assert exit.length == 2 and exit.instruction == b"\x0f\x0b"
            vcpu.rip += exit.length
            return hv.HANDLED

    assert hv.run_asm("ud2; mov eax, 9; hlt", setup=setup).eax == 9


def test_flags_are_whole_when_a_port_access_is_undone() -> None:
    """The arithmetic flags are lazy in the middle of an instruction."""
    flags = []

    def setup(vm: hv.VM) -> None:
        @vm.traps.port_in(0x60)
        def refuse(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            flags.append(vcpu.rflags & 0x8D5)
            return hv.stop("refused")

    result = hv.run_asm("mov eax, 1; cmp eax, 2; in al, 0x60; hlt", setup=setup)
    assert flags == [0x95] and result.rflags & 0x8D5 == 0x95  # CF, PF, AF, SF


def test_registers_are_read_only_in_the_middle_of_an_instruction() -> None:
    def setup(vm: hv.VM) -> None:
        @vm.traps.port_in(0x60)
        def write(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            vcpu.rbx = 1
            return hv.HANDLED

    result = hv.run_asm("in al, 0x60; hlt", setup=setup)
    assert result.reason is hv.Reason.HOST_ERROR and "rbx cannot be written now" in result.message


def test_interrupts_know_no_retry() -> None:
    with hv.boot("preempt", memory="16M") as vm:
        vm.traps.interrupt(lambda vcpu, exit: hv.RETRY)
        result = vm.run(timeout=10)
    assert result.reason is hv.Reason.HOST_ERROR and "hv.RETRY is no answer to an interrupt" in result.message


def test_inject_checks_its_arguments() -> None:
    with pytest.raises(hv.TrapError, match="0 to 255"):
        hv.inject(256)
    with pytest.raises(hv.TrapError, match="has no error code"):
        hv.inject(6, 1)
    with pytest.raises(hv.TrapError, match="32 bits"):
        hv.inject(13, 1 << 32)


@pytest.mark.parametrize("verdict,message", [(hv.stop("seen"), "seen"), (hv.HANDLED, "end"), (hv.PASS, "triple")])
def test_sysenter_in_protected_mode(verdict: hv.Verdict, message: str) -> None:
    def setup(vm: hv.VM) -> None:
        vm.traps.sysenter(lambda vcpu, exit: verdict)
        vm.traps.hypercall(lambda vcpu, exit: hv.stop("end"))

    # SYSENTER_CS is 0, so the built-in behaviour is #GP, and there is no IDT.
    assert message in hv.run_asm("sysenter; vmmcall", mode=32, setup=setup).message
