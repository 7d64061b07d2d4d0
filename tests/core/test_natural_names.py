"""What somebody would guess first works as guessed. This file passes mypy strict, too (`pyproject.toml` names it)."""

from __future__ import annotations

from typing import Literal, assert_type

import pytest

import hypervisor as hv
from hypervisor.outcome.crash_record import StackFrame
from hypervisor.state import number, record
from hypervisor.testing import check_device
from hypervisor.vcpu.typed_access import TypedAccess


def test_a_range_of_ports_in_both_directions() -> None:
    seen: list[tuple[str, int, int]] = []

    def setup(vm: hv.VM) -> None:
        @vm.traps.port(range(0x300, 0x304))
        def port(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            assert_type(exit.direction, Literal["read", "write", "fetch"])
            assert_type(exit.port, int)
            if exit.direction == "read":
                exit.value = 0x5A
            seen.append((exit.direction, exit.port, exit.value))
            return hv.HANDLED

    r = hv.run_asm("mov dx, 0x303; in al, dx; dec dx; out dx, al; hlt", setup=setup)
    assert r.al == 0x5A and seen == [("read", 0x303, 0x5A), ("write", 0x302, 0x5A)]


def test_a_list_of_model_specific_registers_in_both_directions() -> None:
    registers: dict[int, int] = {}

    def setup(vm: hv.VM) -> None:
        @vm.traps.msr([0x5000, range(0x5010, 0x5012)], access="rw")
        def msr(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            if exit.direction == "write":
                registers[exit.msr] = exit.value
            else:
                exit.value = registers.get(exit.msr, 0)
            return hv.HANDLED

    r = hv.run_asm("mov ecx, 0x5011; mov eax, 7; xor edx, edx; wrmsr; mov eax, 1; rdmsr; hlt", setup=setup)
    assert r.eax == 7 and registers == {0x5011: 7}
    assert hv.run_asm("mov ecx, 0x5001; rdmsr; hlt", setup=setup).reason is hv.Reason.CRASHED


def test_exceptions_by_their_names() -> None:
    codes: list[tuple[int, int | None]] = []

    def setup(vm: hv.VM) -> None:
        @vm.traps.exception([hv.GP, hv.UD])
        def fault(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            codes.append((exit.vector, exit.error_code))
            vcpu.rip += exit.length
            return hv.HANDLED

        @vm.traps.hypercall(7)
        def seven(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            return hv.inject(hv.GP, error_code=0x18)

    r = hv.run_asm("ud2; mov rbx, 0x8000000000000000; mov eax, [rbx]; hlt", setup=setup)
    assert r.reason is hv.Reason.HALTED and codes == [(hv.UD, 0), (hv.GP, 0)]
    r = hv.run_asm("mov eax, 7; vmmcall; hlt", setup=setup)  # without an IDT that is its end
    assert r.crash is not None and (r.crash.chain[0].vector, r.crash.chain[0].error) == (hv.GP, 0x18)


def test_time() -> None:
    with hv.boot("hello", memory="16M") as vm:
        assert vm.now == 0.0
        result = vm.run(timeout=10)
        assert vm.now == pytest.approx(result.virtual_s) and vm.now > 0


CALLS = "mov rdi, 0x80000; call f; hlt; f: push rbp; mov rbp, rsp; call g; pop rbp; ret; g: vmmcall; ret"


def test_where_it_is_and_how_it_came_there() -> None:
    places: list[str] = []

    def setup(vm: hv.VM) -> None:
        vm.symbols.add({"start": 0x10000, "f": 0x1000D, "g": 0x10018})

        @vm.traps.hypercall
        def call(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            assert_type(vcpu.where, StackFrame)
            assert_type(vcpu.backtrace(), list[StackFrame])
            places.append(vcpu.where.symbol)
            places.extend(frame.symbol for frame in vcpu.backtrace())
            places.extend(line.text for line in vcpu.disassemble(2))
            places.append(vcpu.disassemble(1, "f")[0].text)
            return hv.HANDLED

    assert hv.run_asm(CALLS, setup=setup).reason is hv.Reason.HALTED
    assert places == ["g", "g", "f+0x9", "start+0xc", "vmmcall", "ret", "push rbp"]


def test_numbers_and_texts_in_memory() -> None:
    with hv.boot("hello", memory="16M") as vm:
        vcpu = vm.vcpu
        vcpu.write(0x8000, b"caf\xc3\xa9 \xff\0more")
        assert vcpu.read_cstr(0x8000) == "café \\xff" and vcpu.read_cstr(0x8000, limit=3) == "caf"
        vcpu.write_u64(0x9000, 0x8877_6655_4433_2211)
        assert vcpu.read_u8(0x9001) == 0x22 and vcpu.read_u16(0x9000) == 0x2211
        assert vcpu.read_u32(0x9004) == 0x8877_6655 and vcpu.read_u64(0x9000) == 0x8877_6655_4433_2211
        for bits, write in ((8, vcpu.write_u8), (16, vcpu.write_u16), (32, vcpu.write_u32), (64, vcpu.write_u64)):
            write(0x9000, (1 << bits) - 1)
            with pytest.raises(OverflowError):
                write(0x9000, 1 << bits)
        assert vcpu.read_u64(0x9000) == (1 << 64) - 1


class OnePage(TypedAccess):
    """Memory of one page, which ends in a text."""

    def read(self, gva: int, size: int) -> bytes:
        """Bytes of the page."""
        if gva + size > 0x1000:
            raise hv.GuestFault(f"{gva:#x} is not mapped")
        return (bytes(0xFF8) + b"text\0 no")[gva : gva + size]

    def write(self, gva: int, data: bytes) -> None:
        """Not needed."""


def test_nothing_behind_a_text_is_looked_at() -> None:
    memory = OnePage()
    assert memory.read_cstr(0xFF8) == "text"
    with pytest.raises(hv.GuestFault):
        memory.read_cstr(0xFFE)


@record
class CounterState:
    count: int = number(0, 255)


class Counter(hv.Device[CounterState]):
    """Counts how often it was read; what is written is where it goes on."""

    def __init__(self) -> None:
        super().__init__("counter", CounterState())

    def read(self, offset: int, size: int) -> int:
        self.s.count = self.s.count + 1 & 0xFF
        return self.s.count

    def write(self, offset: int, size: int, value: int) -> None:
        self.s.count = value & 0xFF


def test_a_device_of_ones_own() -> None:
    check_device(Counter, size=2)
    r = hv.run_asm(
        "mov dx, 0x300; in al, dx; in al, dx; hlt", setup=lambda vm: vm.attach(Counter, ports=range(0x300, 0x302))
    )
    assert r.al == 2
    device = Counter()
    device.write(0, 1, 9)
    assert repr(device) == "<Counter counter: CounterState(count=9)>"
    device.reset()
    assert device.state() == CounterState(0)
    with pytest.raises(hv.DeviceError, match=r"counter: state\.count is 256"):
        device.restore(CounterState(256))


def test_a_crash_says_where() -> None:
    r = hv.run_asm("nop; ud2", setup=lambda vm: vm.symbols.add({"kernel_main": 0x10000}))
    assert r.crash is not None and r.crash.symbol == "kernel_main+0x1" and r.crash.line == ""


class Answer:
    """A plugin."""

    stateless = True

    def attach(self, vm: hv.VM) -> None:
        """Answer hypercall 1, whose handler traps another one then."""

        @vm.traps.hypercall(1)
        def one(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            @vm.traps.hypercall(2)
            def two(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
                vcpu.rbx = 42
                return hv.HANDLED

            assert "Answer.two" in vm.traps.names()
            return hv.HANDLED


def test_machine_code_with_a_plugin() -> None:
    code = bytes.fromhex("b801000000 0f01d9 b802000000 0f01d9 f4")
    assert hv.run_asm(code, plugins=[Answer]).rbx == 42
    with pytest.raises(hv.ConfigError, match="the code has 0 bytes"):
        hv.run_asm(b"")


# --- traps that come and go -------------------------------------------------------------------------------------------


def test_once() -> None:
    ticks: list[int] = []

    def setup(vm: hv.VM) -> None:
        @vm.traps.rdtsc(once=True)
        def first(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            exit.value = 5
            ticks.append(exit.rip)
            return hv.HANDLED

    r = hv.run_asm("rdtsc; mov ebx, eax; rdtsc; hlt", setup=setup)
    assert r.ebx == 5 and r.eax != 5 and len(ticks) == 1


RECURSIVE = """
    mov edi, 4; call sum; hlt
sum: test edi, edi; jz zero; push rdi; dec edi; call sum; pop rdi; add eax, edi; ret
zero: xor eax, eax; ret
"""


def test_what_each_call_of_a_function_returns() -> None:
    """Of a recursive one, too, whose calls return to the same place."""
    returned: list[tuple[int, int]] = []

    def setup(vm: hv.VM) -> None:
        vm.symbols.add({"sum": 0x1000B})

        @vm.traps.execute("sum")
        def sum_of(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            argument = vcpu.edi

            @vm.traps.on_return(vcpu)
            def result(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
                returned.append((argument, vcpu.eax))
                if argument == 2:
                    vcpu.eax += 100
                return hv.PASS

            return hv.PASS

    r = hv.run_asm(RECURSIVE, setup=setup)
    assert returned == [(0, 0), (1, 1), (2, 3), (3, 106), (4, 110)] and r.eax == 110


def test_a_trap_is_switched_by_what_registering_it_returned() -> None:
    with hv.boot("hello", memory="16M") as vm:
        trap = vm.traps.port(0x80, lambda vcpu, exit: hv.PASS, name="post")
        assert isinstance(trap, hv.Trap) and trap.name == "post" and trap.registered
        assert repr(trap) == "<trap port: handler 'post' for port_in and port_out (port 0x80)>"
        trap.disable()
        trap.enable()
        trap.remove()
        trap.remove()
        assert repr(trap) == "<trap port: gone>" and "post" not in vm.traps
        with pytest.raises(hv.TrapError, match="has no handler yet"):
            _ = vm.traps.hlt().name


# --- what they say of themselves --------------------------------------------------------------------------------------


def test_what_things_say_of_themselves() -> None:
    exits: list[str] = []
    with hv.boot("hello", memory="16M") as vm:
        vm.traps.port_out(0xF4, lambda vcpu, exit: exits.append(repr(exit)), mode="observe")
        assert repr(vm) == "<VM hello: 16 MiB, 1 vCPU, not run yet, 0.000000 s of virtual time>"
        assert repr(vm.vcpu) == "<vCPU 0 of hello: running, real mode, at 0x7c00 (start)>"
        result = vm.run(timeout=10)
        assert repr(vm).startswith("<VM hello: 16 MiB, 1 vCPU, powered-off, 0.0004")
        assert repr(result).startswith("<RunResult powered-off after 0.0004")
        assert repr(result).endswith("15 exits: the guest powered off>")
        assert repr(vm.memory).startswith("<memory: 16 MiB of RAM")
        assert "uart0 at 0x3f8-0x3ff" in repr(vm.ports)
    assert repr(vm).startswith("<VM hello: 16 MiB, 1 vCPU, closed")

    def setup(vm: hv.VM) -> None:
        @vm.traps.port_out(mode="observe")
        def out(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            exits.append(repr(exit))

    hv.run_asm("out 0x80, al; hlt", regs={"rax": 0x41}, setup=setup)
    assert exits == ["<exit port_out at 0x10000: port=0x80 size=1 value=0x41>"]


def test_notebooks_show_tables() -> None:
    with hv.boot("hello", memory="16M") as vm:
        vm.symbols.add({"<b>": 0x7C00})
        tables = {
            "registers": vm.vcpu._repr_html_(), "memory": vm.memory._repr_html_(), "ports": vm.ports._repr_html_(),
            "device memory": vm.mmio._repr_html_(), "a page walk": hv.explain(vm.vcpu, 0x7C00)._repr_html_(),
        }  # fmt: skip
    for text in tables.values():
        assert text.startswith("<table>") and text.endswith("</table>")
    assert "&lt;b&gt;" in tables["registers"] and "<b>" not in tables["registers"], "a symbol's name is no markup"
    assert "0xc0000" in tables["memory"] and "uart0" in tables["ports"]
