"""Machines whose disks have limits or fail: in their own virtual time, as errors that drivers know, and alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.units import MIB
from tests.sectors import boot_sector

BY_BIOS = """
    mov bp, 20
again: mov ax, 0x0208; mov bx, 0x9000; mov cx, 1; mov dx, 0x80; int 0x13
    jc failed
    mov al, '.'
    jmp show
failed: add ah, 'A'; mov al, ah
show: mov dx, 0x3f8; out dx, al
    dec bp
    jnz again
    cli; hlt
"""
"""Reads 8 sectors 20 times, and writes a dot, or a letter for the BIOS's status."""
BY_ATA = """
    xor ax, ax; mov es, ax; cld
    mov bp, 20
next: mov dx, 0x1f6; mov al, 0xe0; out dx, al
    mov dx, 0x1f2; mov al, 1; out dx, al
    inc dx; mov al, 0; out dx, al; inc dx; out dx, al; inc dx; out dx, al
    mov dx, 0x1f7; mov al, 0x20; out dx, al
poll: in al, dx; test al, 0x80; jnz poll
    test al, 1
    jnz bad
    mov dx, 0x1f0; mov cx, 256; mov di, 0x9000; rep insw
    mov al, '.'
    jmp show
bad: mov dx, 0x1f1; in al, dx; cmp al, 0x40; mov al, '!'; je show; mov al, '?'
show: mov dx, 0x3f8; out dx, al
    dec bp
    jnz next
    cli; hlt
"""
"""The same of one sector by ATA commands: a bang for an uncorrectable error, a question mark for any other."""
SOURCES = {"bios": BY_BIOS, "ata": BY_ATA}
NAMES = sorted(SOURCES)


def config(source: str, **limits: object) -> hv.MachineConfig:
    image = boot_sector(SOURCES[source]).ljust(MIB, b"\0")
    return hv.MachineConfig(disks=(hv.Disk(image, **limits),), memory="4M", name=source)  # type: ignore[arg-type]


def ended(vm: hv.VM) -> tuple[str, int]:
    assert vm.run(timeout=60).reason is hv.Reason.HALTED
    return vm.serial[0].text, vm.clock.now_ns


@pytest.mark.parametrize("source", NAMES)
def test_limits_hold_in_virtual_time(source: str) -> None:
    with hv.boot(config(source)) as vm:
        text, usual = ended(vm)
        assert text == "." * 20
    size = 8 * 512 if source == "bios" else 512
    for limits, expected in (({"iops": 100}, 0.19), ({"bandwidth": 20 * size}, 0.95), ({"bandwidth": "1G"}, 0)):
        with hv.boot(config(source, **limits)) as vm:
            text, time = ended(vm)
            assert text == "." * 20
            assert expected * 1e9 <= time <= expected * 1e9 + usual, (limits, time)


@pytest.mark.parametrize("source", NAMES)
def test_a_failing_disk_is_an_error_that_a_driver_knows(source: str) -> None:
    def seen(seed: int) -> str:
        with hv.boot(config(source, read_errors=0.4, seed=seed)) as vm:
            return ended(vm)[0]

    first = seen(1)
    error = "!" if source == "ata" else chr(ord("A") + 0x10)  # INT 13h: 10h, uncorrectable error
    assert set(first) == {".", error} and 3 <= first.count(error) <= 14
    assert seen(1) == first != seen(2)


def test_a_failing_disk_reaches_its_own_machine_only() -> None:
    with hv.Host(memory="16M") as host:
        alone = ended(host.create_vm(config("ata")))
        bad = host.create_vm(config("ata", read_errors=0.5, delay=0.01, iops=200, seed=3))
        good = host.create_vm(config("ata"))
        bad.start()
        good.start()
        assert good.wait(60) is not None and bad.wait(60) is not None
        assert (good.serial[0].text, good.clock.now_ns) == alone
        assert "!" in bad.serial[0].text and len(bad.serial[0].text) == 20


@pytest.mark.parametrize("source", NAMES)
def test_machines_that_go_on_have_the_same_delays_and_faults(source: str, tmp_path: Path) -> None:
    described = config(source, read_errors=0.3, delay=0.01, iops=100, seed=6)
    with hv.boot(described) as vm:
        expected = ended(vm)
    with hv.boot(described) as vm:
        vm.run(until=hv.after(0.055))  # in the middle of a wait, by ATA
        vm.save(tmp_path / "machine")
        with vm.snapshot() as snapshot, hv.Host(memory="16M"):
            assert ended(vm) == expected
            vm.revert(snapshot)
            assert ended(vm) == expected
    with hv.boot(str(tmp_path / "machine")) as again:
        disk = again.config.disks[0]
        assert isinstance(disk, hv.Disk) and disk.limits == described.disks[0].limits  # type: ignore[union-attr]
        assert ended(again) == expected


def test_a_fork_has_them_too() -> None:
    described = config("ata", read_errors=0.3, delay=0.01, iops=100, seed=6)
    with hv.boot(described) as vm:
        vm.run(until=hv.after(0.055))
        with vm.fork() as child:
            assert ended(child) == ended(vm)


def test_disks_are_described_in_files() -> None:
    text = '[vm.a]\ndisks = [{image = "a.img", bandwidth = "10M", iops = 100, read_errors = 0.1, seed = 3}]\n'
    disk = hv.FleetConfig.from_toml(text).machines["a"].machine.disks[0]
    assert disk == hv.Disk("a.img", bandwidth="10M", iops=100, read_errors=0.1, seed=3)
    machine = hv.MachineConfig(disks=(disk,))
    assert hv.MachineConfig.from_toml(machine.to_toml()) == machine
    with pytest.raises(hv.ConfigError, match=r"the text:2: iops=0: give commands a second"):
        hv.FleetConfig.from_toml('[vm.a]\ndisks = [{image = "a.img", iops = 0}]\n')
