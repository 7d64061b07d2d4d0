"""The accesses that an instruction makes, by address and size, as handlers of device memory and of watched memory see
them: up to 8 bytes at once, wider ones in pieces of 8.
"""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.devices.parts.device_state import Stateless
from tests.core.bare import DATA, bare

DEVICE = 0xD0000000
VALUE = 0x1122334455667788

R, W = "r", "w"
ACCESSES: dict[str, list[tuple[str, int, int]]] = {
    "mov rax, [rbx]": [(R, 0, 8)],
    "mov [rbx], rcx": [(W, 0, 8)],
    "movnti [rbx], rcx": [(W, 0, 8)],
    "movq [rbx], xmm0": [(W, 0, 8)],
    "fld qword ptr [rbx]": [(R, 0, 8)],
    "push rcx": [(W, 0x7F8, 8)],
    "pop rax": [(R, 0x800, 8)],
    "call next; next: nop": [(W, 0x7F8, 8)],
    "mov eax, [rbx]": [(R, 0, 4)],
    "mov [rbx + 2], cx": [(W, 2, 2)],
    # read, then written
    "add [rbx], rcx": [(R, 0, 8), (W, 0, 8)],
    "lock add [rbx], rcx": [(R, 0, 8), (W, 0, 8)],
    "lock inc byte ptr [rbx]": [(R, 0, 1), (W, 0, 1)],
    "xchg [rbx], rcx": [(R, 0, 8), (W, 0, 8)],
    "lock cmpxchg [rbx], rcx": [(R, 0, 8), (W, 0, 8)],
    "lock cmpxchg8b [rbx]": [(R, 0, 8), (W, 0, 8)],
    "lock cmpxchg16b [rbx]": [(R, 0, 8), (R, 8, 8), (W, 0, 8), (W, 8, 8)],
    # strings
    "movsq": [(R, 0x100, 8), (W, 0, 8)],
    "mov ecx, 2; rep stosq": [(W, 0, 8), (W, 8, 8)],
    # wider
    "movups xmm0, [rbx]": [(R, 0, 8), (R, 8, 8)],
    "movups [rbx], xmm0": [(W, 0, 8), (W, 8, 8)],
    "fld tbyte ptr [rbx]": [(R, 0, 8), (R, 8, 2)],
    "fld1; fstp tbyte ptr [rbx]": [(W, 0, 8), (W, 8, 2)],
    # not aligned
    "mov rax, [rbx + 4]": [(R, 4, 8)],
    "mov [rbx + 4], rcx": [(W, 4, 8)],
    "movbe rax, [rbx + 3]": [(R, 3, 8)],
    "movups xmm0, [rbx + 4]": [(R, 4, 8), (R, 12, 8)],
    "lock add [rbx + 1], ecx": [(R, 1, 4), (W, 1, 4)],
    "fld tbyte ptr [rbx + 5]": [(R, 5, 8), (R, 13, 2)],
    # across two pages
    "mov rax, [rbx + 0xffc]": [(R, 0xFFC, 4), (R, 0x1000, 4)],
    "mov ax, [rbx + 0xfff]": [(R, 0xFFF, 1), (R, 0x1000, 1)],
    "mov [rbx + 0xff9], rcx": [(W, 0xFF9, 1), (W, 0xFFA, 2), (W, 0xFFC, 4), (W, 0x1000, 1)],
    "movups xmm0, [rbx + 0xffe]": [(R, 0xFFE, 2), (R, 0x1000, 4), (R, 0x1004, 2), (R, 0x1006, 8)],
}


@pytest.mark.parametrize("code", ACCESSES)
@pytest.mark.parametrize("base", [DEVICE, DATA], ids=["device", "memory"])
def test_each_access_is_seen_once_and_whole(code: str, base: int) -> None:
    seen: list[tuple[str, int, int]] = []

    def look(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
        seen.append((W if exit.write else R, exit.gpa - base, exit.size))

    with bare(f"{code}; hlt", rbx=base, rcx=VALUE, rsp=base + 0x800, rdi=base, rsi=base + 0x100) as vm:
        if base == DEVICE:
            vm.traps.mmio_read(range(base, base + 0x2000), look, mode="observe", name="read")
            vm.traps.mmio_write(range(base, base + 0x2000), look, mode="observe", name="write")
        else:
            vm.traps.memory(range(base, base + 0x2000), look, access="rw", mode="observe")
        assert vm.run(timeout=20).reason is hv.Reason.HALTED
    assert seen == ACCESSES[code]


class Wide(Stateless):
    """A register of 64 bits, and what was read and written."""

    name = "wide"

    def __init__(self) -> None:
        self.value = 0
        self.written: list[tuple[int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        return self.value >> 8 * offset & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        self.value = value
        self.written.append((offset, size, value))


def test_no_write_to_a_register_of_64_bits_is_torn() -> None:
    code = "again: mov [rbx], rcx; mov rdx, [rbx]; cmp rdx, rcx; jne done; not rcx; dec eax; jnz again; done: hlt"
    device = Wide()
    with bare(code, rbx=DEVICE, rcx=VALUE, rax=50) as vm:
        vm.attach(device, mmio=range(DEVICE, DEVICE + 8))
        assert vm.run(timeout=20).reason is hv.Reason.HALTED
        assert vm.vcpu.eax == 0 and vm.stats["mmio_write"] == vm.stats["mmio_read"] == 50
    assert device.written == [(0, 8, VALUE ^ (n & 1) * ((1 << 64) - 1)) for n in range(50)]


@hv.compiled(words=2)
def note(state, regs, gpa, size, value):  # type: ignore[no-untyped-def]
    state[0] += size
    state[1] = value
    return 0


@hv.compiled
def answer(state, regs, gpa, size, value):  # type: ignore[no-untyped-def]
    return 0x7FEEDDCCBBAA9988 if size == 8 else 0


def test_compiled_handlers_see_it_whole_and_answer_with_all_of_it() -> None:
    with bare("mov [rbx], rcx; mov rdx, [rbx]; hlt", rbx=DEVICE, rcx=VALUE) as vm:
        vm.traps.mmio_write(range(DEVICE, DEVICE + 8), note)
        vm.traps.mmio_read(range(DEVICE, DEVICE + 8), answer)
        assert vm.run(timeout=20).reason is hv.Reason.HALTED
        assert vm.vcpu.rdx == 0x7FEEDDCCBBAA9988
    assert list(note.state) == [8, VALUE]


@pytest.mark.parametrize("base", [DEVICE, DATA], ids=["device", "memory"])
def test_a_stop_at_the_second_piece_begins_the_instruction_again(base: int) -> None:
    seen: list[int] = []

    def stop_once(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        seen.append(exit.gpa - base)
        return hv.stop("the upper half") if seen == [0, 8] else hv.PASS

    with bare("movups xmm0, [rbx]; hlt", rbx=base) as vm:
        if base == DEVICE:
            vm.traps.mmio_read(range(base, base + 16), stop_once)
        else:
            vm.traps.memory(range(base, base + 16), stop_once, access="r")
        assert vm.run(timeout=20).message == "the upper half"
        assert vm.vcpu.rip == 0x10000
        assert vm.run(timeout=20).reason is hv.Reason.HALTED
    assert seen == [0, 8, 0, 8]
