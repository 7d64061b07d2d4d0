"""The board's APICs and ACPI as guests find them. The shipped guests ``apic`` and ``smp`` cover what is ordinary."""

from __future__ import annotations

import copy
from contextlib import closing

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.errors import DeviceError

GOOD = """
good:
    mov al, 'G'
    out 0xe9, al
    mov dx, 0x604
    mov ax, 0x2000
    out dx, ax
bad:
    mov al, 1
    out 0xf4, al
    cli
    hlt
"""
BASE, SVR, TPR = 0xFEE00000, 0xF0, 0x80


def run(source: str, mode: int = 32, board: hv.Board | None = None, **options: object) -> hv.RunResult:
    """Run flat code at 1 MiB that jumps to ``good`` or to ``bad``."""
    code = assemble(source + GOOD, origin=0x100000, mode=mode).code
    with closing(hv.boot(code, format="flat", at=0x100000, entry=0x100000, mode=mode, board=board, **options)) as vm:
        result = vm.run(virtual_timeout=10)
        assert result.reason is not hv.Reason.POWERED_OFF or vm.debugcon.bytes == b"G"
        return result


def test_the_first_apic_is_left_as_firmware_leaves_it() -> None:
    result = run(
        f"""
        mov ebx, {BASE}
        cmp dword ptr [ebx + {SVR}], 0x1ff
        jne bad
        cmp dword ptr [ebx + 0x350], 0x8700
        jne bad
        cmp dword ptr [ebx + 0x360], 0x8400
        jne bad
        """
    )
    assert result.reason is hv.Reason.POWERED_OFF


def test_an_apic_that_is_switched_off_is_not_there() -> None:
    result = run(
        f"""
        mov ecx, 0x1b
        rdmsr
        cmp eax, 0xfee00900
        jne bad
        and eax, ~0x800
        wrmsr
        mov ebx, {BASE}
        cmp dword ptr [ebx + 0x30], -1
        jne bad
        mov dword ptr [ebx + {TPR}], 0x20
        or eax, 0x800
        wrmsr
        cmp dword ptr [ebx + {TPR}], 0
        jne bad
        cmp dword ptr [ebx + {SVR}], 0xff
        jne bad
        """
    )
    assert result.reason is hv.Reason.POWERED_OFF


APIC_BITS = """
    mov eax, 1
    cpuid
    mov esi, edx
    mov eax, 0x80000001
    cpuid
    and edx, esi
    and edx, 1 << 9
"""
FLIP = "mov ecx, 0x1b; rdmsr; xor eax, 0x800; wrmsr"


@pytest.mark.parametrize("heard", [False, True], ids=["in the engine", "through a handler"])
def test_cpuid_shows_whether_this_processor_has_switched_its_apic_on(heard: bool) -> None:
    """APM volume 3, appendix E, function 1 EDX[9]: the APIC exists and is enabled; function 80000001h repeats it."""
    first = f"""
        {FLIP}
        {APIC_BITS}
        mov [0x8100], edx
        mov byte ptr [0x8108], 1
    wait:
        pause
        cmp byte ptr [0x8109], 1
        jne wait
        {FLIP}
        {APIC_BITS}
        mov [0x8102], dx
        cli
        hlt
        """
    second = f"""
    wait:
        cmp byte ptr [cs:0x108], 1
        jne wait
        {APIC_BITS}
        mov [cs:0x104], edx
        mov byte ptr [cs:0x109], 1
        cli
        hlt
        """
    code = assemble(first, origin=0x1000, mode=32).code
    with closing(hv.boot(code, memory="1M", format="flat", at=0x1000, mode=32, cpus=2)) as vm:
        if heard:
            vm.traps.cpuid(lambda vcpu, exit: hv.PASS)
        vm.memory.write(0x8000, assemble(second, origin=0, mode=16).code)
        vm.vcpus[1].startup(8)
        assert vm.run(virtual_timeout=1).reason is hv.Reason.HALTED
        answers = [int.from_bytes(vm.memory.read(0x8100 + at, 2), "little") for at in (0, 2, 4)]
        assert answers == [0, 1 << 9, 1 << 9]


@pytest.mark.parametrize("where", [0xD0000000, 0x300000], ids=["where nothing is", "over memory"])
def test_the_registers_can_be_moved(where: int) -> None:
    result = run(
        f"""
        mov dword ptr [{where} + {TPR}], 0x77
        mov ecx, 0x1b
        mov eax, {where} + 0x900
        xor edx, edx
        wrmsr
        mov dword ptr [{where} + {TPR}], 0x20
        cmp dword ptr [{where} + {TPR}], 0x20
        jne bad
        cmp dword ptr [{BASE} + {TPR}], -1
        jne bad
        mov eax, {BASE} + 0x900
        wrmsr
        cmp dword ptr [{BASE} + {TPR}], 0x20
        jne bad
        cmp dword ptr [{where} + {TPR}], {"-1" if where > 1 << 30 else "0x77"}
        jne bad
        """
    )
    assert result.reason is hv.Reason.POWERED_OFF


def test_the_registers_do_not_hide_another_device() -> None:
    result = run("mov ecx, 0x1b; mov eax, 0xfec00900; xor edx, edx; wrmsr; cmp dword ptr [0xfec00000], 0; jne bad")
    assert result.reason is hv.Reason.POWERED_OFF


def _base(*modes: int) -> str:
    """Write these bits 11:10 into APIC_BASE, one after the other."""
    return "\n".join(f"mov ecx, 0x1b; rdmsr; and eax, ~0xc00; or eax, {mode << 10}; wrmsr" for mode in modes)


@pytest.mark.parametrize("modes", [(3, 3), (3, 0, 2), (3, 0, 2, 3)], ids=str)
def test_x2apic_mode_is_entered_and_left(modes: tuple[int, ...]) -> None:
    in_it = modes[-1] == 3
    result = run(
        f"""
        {_base(*modes)}
        mov eax, [{BASE} + {SVR}]
        cmp eax, {"-1" if in_it else "0xff"}
        jne bad
        {"mov ecx, 0x80f; rdmsr; and eax, 0xff; cmp eax, 0xff; jne bad" if in_it else ""}
        """
    )
    assert result.reason is hv.Reason.POWERED_OFF


@pytest.mark.parametrize("modes", [(1,), (3, 2), (3, 1), (0, 3), (0, 1)], ids=str)
def test_an_illegal_mode_is_refused(modes: tuple[int, ...]) -> None:
    result = run(_base(*modes))
    assert result.reason is hv.Reason.CRASHED  # #GP, and no IDT
    assert "APIC_BASE (MSR 0x1b) refuses" in result.message + str(result.crash)


def test_x2apic_mode_is_refused_on_a_board_without_apics() -> None:
    board = hv.pc().without("lapic").without("ioapic")
    assert run(_base(3), board=board).reason is hv.Reason.CRASHED
    assert run("mov eax, 1; cpuid; test ecx, 1 << 21; jnz bad", board=board).reason is hv.Reason.POWERED_OFF


@pytest.mark.parametrize(
    "code, why",
    [
        ("mov ecx, 0x808; rdmsr", "X2APIC_TPR (MSR 0x808) is there in x2APIC mode only"),
        (f"{_base(3)}; mov ecx, 0x80b; rdmsr", "X2APIC_EOI (MSR 0x80b) cannot be read"),
        (f"{_base(3)}; mov ecx, 0x802; wrmsr", "X2APIC_ID (MSR 0x802) cannot be written"),
        (f"{_base(3)}; mov ecx, 0x80e; rdmsr", "there is no MSR 0x80e"),
        (f"{_base(3)}; mov ecx, 0x808; mov eax, 0x100; wrmsr", "X2APIC_TPR (MSR 0x808) refuses 0x100: bit 8 is"),
    ],
)
def test_why_an_access_in_x2apic_mode_is_refused(code: str, why: str) -> None:
    result = run(f"xor edx, edx; {code}")
    assert result.reason is hv.Reason.CRASHED and why in str(result.crash)


def test_cpuid_offers_x2apic_and_tells_the_ids() -> None:
    """APM volume 3, appendix E, function bh: levels of the id, here processors with one thread each, and the id."""
    seen: list[list[int]] = []
    code = assemble("mov eax, 0xb; cpuid; hlt", origin=0, mode=16).code
    with closing(hv.boot(code, memory="1M", format="flat", at=0x8000, mode=16, cpus=4)) as vm:
        for vcpu in vm.vcpus:
            rows = [vcpu.builtin_cpuid(vcpu, 0xB, subleaf) for subleaf in range(4)]
            seen.append([row[3] for row in rows[:3]])
            assert [row[:3] for row in rows] == [(0, 1, 0x100), (2, 4, 0x201), (0, 0, 2), (0, 0, 0)]
            assert vcpu.builtin_cpuid(vcpu, 1, 0)[2] >> 21 & 1
    assert seen == [[n] * 3 for n in range(4)]


def test_cr8_is_the_task_priority() -> None:
    result = run(
        f"""
        mov rax, 5
        mov cr8, rax
        cmp dword ptr [{BASE} + {TPR}], 0x50
        jne bad
        mov dword ptr [{BASE} + {TPR}], 0x3f
        mov rax, cr8
        cmp rax, 3
        jne bad
        """.replace(f"[{BASE} + {TPR}]", "[rbx]").replace("mov rax, 5", f"mov rax, 5\nmov ebx, {BASE + TPR}"),
        mode=64,
    )
    assert result.reason is hv.Reason.POWERED_OFF


def test_a_board_without_apics_says_so_and_works() -> None:
    board = hv.pc().without("lapic").without("ioapic")
    result = run("mov eax, 1; cpuid; test edx, 1 << 9; jnz bad; cmp dword ptr [0xfee00030], -1; jne bad", board=board)
    assert result.reason is hv.Reason.POWERED_OFF
    with closing(hv.boot("preempt", board=board)) as vm:
        assert vm.run(timeout=60).reason is hv.Reason.POWERED_OFF
        assert "preempt: good" in vm.console.text


FIND_AND_POWER_OFF = """
# As tutorials do it: root, FADT, PM1a control block, and the bytes of the DSDT's _S5 package.
    mov esi, 0xe0000
search:
    cmp dword ptr [esi], 0x20445352     # "RSD "
    jne next
    cmp dword ptr [esi + 4], 0x20525450 # "PTR "
    je found
next:
    add esi, 16
    cmp esi, 0x100000
    jb search
    jmp bad
found:
    mov esi, [esi + 16]
    mov ecx, [esi + 4]
    sub ecx, 36
    shr ecx, 2
table:
    mov edi, [esi + 36]
    cmp dword ptr [edi], 0x50434146     # "FACP"
    je fadt
    add esi, 4
    loop table
    jmp bad
fadt:
    mov dx, [edi + 48]
    mov al, [edi + 52]
    out dx, al                          # ACPI mode
    mov dx, [edi + 64]
    in ax, dx
    test al, 1                          # SCI_EN
    jz bad
    mov ebx, [edi + 40]
    mov ecx, [ebx + 4]
s5:
    cmp dword ptr [ebx], 0x5f35535f     # "_S5_"
    je package
    inc ebx
    loop s5
    jmp bad
package:
    cmp byte ptr [ebx - 2], 8           # NameOp and the root
    jne bad
    cmp byte ptr [ebx + 4], 0x12
    jne bad
    movzx eax, byte ptr [ebx + 7]       # one byte of length, the number of elements, then the first
    cmp al, 1
    ja bad
    shl eax, 10
    or eax, 1 << 13
    push eax
    mov al, 'G'
    out 0xe9, al
    pop eax
    out dx, ax
    jmp bad
"""


def test_a_guest_finds_the_tables_and_powers_off() -> None:
    assert run(FIND_AND_POWER_OFF).reason is hv.Reason.POWERED_OFF


def test_the_reset_register_of_the_fadt_resets() -> None:
    assert run("mov dx, 0xcf9; mov al, 6; out dx, al").reason is hv.Reason.RESET


def test_the_pm_timer_runs_with_the_clock() -> None:
    """A tenth of a second of PIT time, by the PM timer: 357,954 ticks."""
    result = run(
        """
        mov al, 0x30
        out 0x43, al
        mov al, 119318 >> 1 & 0xff
        out 0x40, al
        mov al, 119318 >> 9
        out 0x40, al
        mov dx, 0x608
        in eax, dx
        mov ebx, eax
        mov ecx, 2
    wait:
        mov al, 0xe2                    # read back the status of counter 0
        out 0x43, al
        in al, 0x40
        test al, 0x80
        jz wait
        in eax, dx
        sub eax, ebx
        cmp eax, 178970
        jb bad
        cmp eax, 179100
        ja bad
        """
    )
    assert result.reason is hv.Reason.POWERED_OFF


def test_the_power_button_interrupts_through_the_ioapic() -> None:
    vm = hv.boot("apic")
    with closing(vm):
        pm, io, lapic = vm.devices["acpi-pm"], vm.devices["ioapic"], vm.devices["lapic"].apics[0]
        io.write(0, 4, 0x10 + 2 * 9)
        io.write(0x10, 4, 0x8039)
        pm.write(0x40, 1, 0xF1)
        pm.write(2, 2, 1 << 8)
        pm.press_power_button()
        assert vm.vcpu.intr.level
        assert lapic.acknowledge() == 0x39


def test_each_wire_is_on_its_input() -> None:
    """The timer is on input 2, the 8259s' output on input 0, every other ISA line on its own (as ACPI's MADT says)."""
    with closing(hv.boot("apic")) as vm:
        pic, io = vm.devices["pic"], vm.devices["ioapic"]
        io.write(0, 4, 0x10 + 2 * 23)
        io.write(0x10, 4, 0x8039)  # the first input that is unmasked has the wires led here
        pic.write(1, 1, 0xFF)
        for irq in (irq for irq in range(16) if irq != 2):
            pic.line(irq).set(False)
            low = io.state().levels
            pic.line(irq).set(True)
            assert io.state().levels ^ low == 1 << (irq or 2), irq
            pic.line(irq).set(False)
        pic.write(1, 1, 0xFD)
        pic.line(1).set(True)
        assert io.state().levels & 1


def test_a_reset_puts_the_registers_back() -> None:
    with closing(hv.boot("apic")) as vm:
        vm.vcpu.msr[0x1B] = 0xD0000900
        vm.vcpu.apic.set_base(0xD0000900)
        assert vm.mmio.find(0xD0000030) is not None and vm.mmio.find(BASE + 0x30) is None
        vm.reset()
        assert vm.mmio.find(BASE + 0x30) is not None and vm.mmio.find(0xD0000030) is None


def test_the_state_of_all_apics_is_one_state() -> None:
    with closing(hv.boot("smp", cpus=3)) as vm:
        lapics = vm.devices["lapic"]
        before = lapics.state()
        for number, apic in enumerate(lapics.apics):
            apic.write(TPR, 4, number << 4)
        after = lapics.state()
        lapics.restore(before)
        assert lapics.state() == before != after
        broken = copy.deepcopy(after)
        broken.apics[2].tpr = -1
        with pytest.raises(DeviceError):
            lapics.restore(broken)
        assert lapics.state() == before
        for wrong in (None, 17, after.apics):
            with pytest.raises(DeviceError):
                lapics.restore(wrong)


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_smp_runs_the_same_way_every_time(cpus: int) -> None:
    def boot() -> tuple[object, ...]:
        with closing(hv.boot("smp", cpus=cpus)) as vm:
            result = vm.run(timeout=60)
            assert result.reason is hv.Reason.POWERED_OFF, vm.console.text
            return vm.console.text, result.virtual_s, result.exits

    first = boot()
    assert first[0].endswith("smp: good\n")  # type: ignore[attr-defined]
    assert boot() == first


def test_smp_by_the_wall_clock() -> None:
    with closing(hv.boot("smp", cpus=4, clock="wall")) as vm:
        assert vm.run(timeout=60).reason is hv.Reason.POWERED_OFF
        assert vm.console.text.endswith("smp: good\n")


def test_a_guest_can_be_reset_and_starts_its_processors_again() -> None:
    with closing(hv.boot("smp", cpus=3)) as vm:
        first = vm.run(timeout=60)
        text = vm.console.text
        vm.reset()
        assert vm.run(timeout=60).reason is first.reason
        assert vm.console.text == 2 * text
