"""SeaBIOS itself: what it finds, what it says, and that it starts again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from tests.qemu_screen import screen_under_qemu
from tests.sectors import boot_sector

LAST = "Retrying in 60 seconds."
BOARD = ("-nodefaults", "-vga", "std", "-m", "64", "-global", "apic-common.vapic=off")


@pytest.fixture
def seabios(debian_file: Callable[[str, str], Path]) -> Path:
    return debian_file("seabios", "usr/share/seabios/bios-256k.bin")


@pytest.mark.parametrize("rom", ["bios-256k.bin", "bios.bin"])
def test_without_drives_it_says_so_as_under_qemu(
    debian_file: Callable[[str, str], Path], rom: str, tmp_path: Path
) -> None:
    image = debian_file("seabios", f"usr/share/seabios/{rom}")
    options = (*BOARD, "-bios", str(image), "-boot", "reboot-timeout=60000")
    expected = screen_under_qemu(options, lambda text: LAST in text, tmp_path)
    with closing(hv.boot(firmware=image)) as vm:
        vm.run(until=lambda: LAST in vm.screen.text, virtual_timeout=30)
        screen, log = vm.screen.text.rstrip(), vm.firmware.log.text
    assert screen == expected
    for line in (
        "Running on QEMU (i440fx)",
        "QEMU fw_cfg DMA interface supported",
        "qemu/e820: addr 0x0000000000000000 len 0x0000000004000000 [RAM]",
        "PIIX3/PIIX4 init: elcr=00 0c",
        "Using pmtimer, ioport 0x608",
        "PCI: Using 00:02.0 for primary VGA",
        "VBE DISPI: lfb_addr=fd000000, size 16 MB",
        "PS2 keyboard initialized",
    ):
        assert line in log, log
    assert "WARNING" not in log


@pytest.mark.parametrize("cpus", [1, 4])
def test_it_finds_every_processor(seabios: Path, cpus: int) -> None:
    with closing(hv.boot(firmware=seabios, cpus=cpus)) as vm:
        vm.run(until=lambda: "All threads complete" in vm.firmware.log.text, virtual_timeout=30)
        assert f"Found {cpus} cpu(s) max supported {cpus} cpu(s)" in vm.firmware.log.text


@pytest.mark.parametrize(
    "reset",
    ["mov al, 0xfe\n out 0x64, al", "mov dx, 0xcf9\n mov al, 6\n out dx, al", "mov al, 1\n out 0x92, al"],
    ids=["keyboard", "cf9", "port92"],
)
def test_it_starts_again_after_a_reset(seabios: Path, reset: str) -> None:
    """The ROM shows again at the reset vector, though SeaBIOS had changed its copy in RAM."""
    disk = boot_sector(f"""
        mov ax, 0x9200          # SeaBIOS clears what is below 90000h
        mov ds, ax
        cmp dword [0], 0x12345678
        je again
        mov dword [0], 0x12345678
        {reset}
        hlt
    again:
        mov al, 0x10
        out 0xf4, al
    """)
    with closing(hv.boot(firmware=seabios, disks=[disk], boot_order="c", reboot=True)) as vm:
        result = vm.run(timeout=60, virtual_timeout=60)
        log = vm.firmware.log.text
    assert (result.reason, result.status) == (hv.Reason.DEBUG_EXIT, 33), result.message
    assert log.count("SeaBIOS (version") >= 4  # at its start and on the screen, twice each


def test_it_runs_the_same_way_every_time(seabios: Path) -> None:
    def once() -> tuple[bytes, dict[str, int]]:
        with closing(hv.boot(firmware=seabios, disks=[bytes(1 << 20)])) as vm:
            result = vm.run(virtual_timeout=10)
            return vm.firmware.log.bytes, dict(result.exits)

    assert once() == once()
