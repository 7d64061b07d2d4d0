"""Memory beside RAM: blocks that are mapped, moved and protected while the guest runs, and holes in RAM."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.errors import ConfigError

BASE = 0xE0000000


class Recorder:
    """A device that remembers stores and answers loads with a constant."""

    name = "recorder"

    def __init__(self) -> None:
        self.stores: list[tuple[int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        return 0x77777777 & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        self.stores.append((offset, size, value))

    def reset(self) -> None:
        self.stores.clear()

    def state(self) -> list[tuple[int, int, int]]:
        return list(self.stores)

    def restore(self, state: list[tuple[int, int, int]]) -> None:
        self.stores = list(state)


def test_a_block_is_memory_for_guest_and_host() -> None:
    seen = {}

    def setup(vm: hv.VM) -> None:
        block = vm.add_memory(BASE, 0x3000, "vram")
        block.write(0x1000, b"\x78\x56\x34\x12")
        vm.traps.hypercall(lambda vcpu, exit: seen.update(view=block.read(0, 4)) or hv.HANDLED)

    result = hv.run_asm(
        f"mov rbx, {BASE:#x}; mov dword ptr [rbx], 0xcafe; mov edx, [rbx + 0x1000]; vmmcall; hlt", setup=setup
    )
    assert result.reason == hv.Reason.HALTED
    assert result.edx == 0x12345678
    assert seen["view"] == b"\xfe\xca\0\0"


def test_a_block_hides_the_ram_beneath_and_can_show_at_two_places() -> None:
    with hv.Host("16M") as host, host.create_vm(memory="2M") as vm:
        vm.memory.write(0x80000, b"ram!" * 0x1000)
        block = vm.add_memory(0x81000, 0x1000, "over")
        assert vm.memory.read(0x80FFC, 8) == b"ram!\0\0\0\0"
        vm.memory.write(0x81000, b"seen")
        assert block.read(0, 4) == b"seen"
        block.map(BASE)
        assert vm.memory.read(BASE, 4) == b"seen"
        block.unmap(0x81000)
        assert vm.memory.read(0x81000, 4) == b"ram!"
        assert vm.memory.read(BASE, 4) == b"seen"
        block.unmap()
        assert vm.memory.read(BASE, 4) == b"\xff" * 4


def test_stores_to_a_rom_go_to_the_device_behind_it() -> None:
    device = Recorder()

    def setup(vm: hv.VM) -> None:
        vm.add_memory(BASE, 0x1000, "rom", writable=False).write(0, b"ROM!")
        vm.attach(device, mmio=range(BASE, BASE + 0x1000))

    result = hv.run_asm(f"mov rbx, {BASE:#x}; mov byte ptr [rbx + 2], 5; mov eax, [rbx]; hlt", setup=setup)
    assert result.eax == int.from_bytes(b"ROM!", "little")
    assert device.stores == [(2, 1, 5)]


def test_mapping_changes_while_the_guest_runs() -> None:
    """A port write maps a page with other code over one that has been executed; another takes it away again."""

    def setup(vm: hv.VM) -> None:
        block = vm.add_memory(None, 0x1000, "code")
        block.write(0, b"\xb8\x02\0\0\0\xc3")  # mov eax, 2; ret
        vm.memory.write(0x40000, b"\xb8\x01\0\0\0\xc3")  # mov eax, 1; ret

        def switch(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            if exit.value:
                block.map(0x40000)
            else:
                block.unmap()
            return hv.HANDLED

        vm.traps.port_out(range(0x300, 0x301))(switch)

    code = """
        mov rbx, 0x40000; mov edx, 0x300; xor esi, esi; mov ecx, 20
    again:
        mov al, cl; and al, 1; out dx, al
        call rbx
        shl esi, 1; dec eax; or esi, eax
        loop again
        hlt
    """
    result = hv.run_asm(code, setup=setup)
    assert result.reason == hv.Reason.HALTED, result.message
    assert result.esi == int("01" * 10, 2)


def test_hidden_ram_goes_to_the_device_and_comes_back() -> None:
    device = Recorder()
    with hv.Host("16M") as host, host.create_vm(memory="2M") as vm:
        vm.memory.write(0x50000, b"ram!")
        vm.hide_memory(range(0x50000, 0x51000))
        vm.attach(device, mmio=range(0x50000, 0x51000), replace=True)
        assert vm.memory.read(0x50000, 4) == b"\xff" * 4
        vm.show_memory(range(0x50000, 0x51000))


@pytest.mark.parametrize("gpa", [0x123, -0x1000, 1 << 32, 0xFFFFF000])
def test_blocks_go_where_memory_can_be(gpa: int) -> None:
    with hv.Host("16M") as host, host.create_vm(memory="1M") as vm, pytest.raises(ConfigError, match="rom"):
        vm.add_memory(gpa, 0x2000, "rom")


def test_blocks_are_given_back() -> None:
    with hv.Host("16M") as host:
        for _ in range(40):  # 40 x 32 MiB is more than the host has for devices
            with host.create_vm(memory="1M") as vm:
                vm.add_memory(BASE, 32 << 20).write(0, b"\1")
        with host.create_vm(memory="1M") as vm:
            assert vm.add_memory(None, 32 << 20).read(0, 1) == b"\0"
