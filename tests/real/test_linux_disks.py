"""Linux's own drivers (ata_piix, sd, sr) on the IDE controller: every sector that they read and write is compared.

The modules are those of Debian's cloud kernel, loaded from an initramfs; by DMA, and by PIO.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from tests.debian import debian_path, kernel_package
from tests.initramfs import READY, Entry, initramfs, newc
from tests.programs import run

MODULES = ("drivers/scsi/scsi_common", "drivers/scsi/scsi_mod", "drivers/cdrom/cdrom", "drivers/ata/libata",
           "drivers/ata/ata_piix", "drivers/scsi/sd_mod", "drivers/scsi/sr_mod", "fs/isofs/isofs")  # fmt: skip
INIT = (
    READY
    + "".join(f"busybox insmod /{Path(module).name}.ko ${Path(module).name}\n" for module in MODULES)
    + """
n=0
while [ ! -b /dev/sdb ] || [ ! -b /dev/sr0 ]; do sleep 0.1; n=$((n+1)); [ $n = 100 ] && break; done
echo "mode of disk $(cat /sys/class/ata_device/dev1.0/xfer_mode)"
echo "mode of CD $(cat /sys/class/ata_device/dev2.0/xfer_mode)"
for one in sda sdb sr0; do echo "sum $one $(busybox sha256sum < /dev/$one)"; done
busybox dd if=/dev/sda of=/dev/sdb bs=4096 count=512 seek=3 conv=fsync 2>/dev/null
echo "sum written $(busybox sha256sum < /dev/sdb)"
mount -t iso9660 /dev/sr0 /tmp && echo "file $(cat /tmp/hello.txt)"
echo DONE
exec poweroff -f
"""
)
"""A module's parameters are in the variable of its name, which the kernel takes from its command line."""
DISK = random.Random(3).randbytes(5 << 20)
OTHER = random.Random(4).randbytes(3 << 20)


@pytest.fixture(scope="module")
def ramdisk(debian_file: Callable[[str, str], Path], cloud_kernel: Path) -> bytes:
    """An initramfs with the modules."""
    entries = []
    for module in MODULES:
        path = debian_path(kernel_package(), f"lib/modules/*/kernel/{module}.ko")
        entries.append(Entry(path.name, 0o100644, path.read_bytes()))
    return initramfs(INIT, debian_file("busybox-static", "bin/busybox").read_bytes()) + newc(entries)


@pytest.fixture(scope="module")
def cd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CD with a file system."""
    root = tmp_path_factory.mktemp("cd")
    (root / "files").mkdir()
    (root / "files/hello.txt").write_text("hello from a CD")
    (root / "files/noise").write_bytes(random.Random(5).randbytes(2 << 20))
    run("xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-o", root / "cd.iso", root / "files")
    return root / "cd.iso"


@pytest.mark.parametrize(
    ("transfers", "options"),
    [
        ("XFER_MW_DMA_2", "acpi=off noapic nolapic"),
        ("XFER_PIO_4", "acpi=off noapic nolapic libata=dma=0"),
        ("XFER_MW_DMA_2", ""),
    ],
    ids=["dma", "pio", "dma-with-apic"],
)
def test_linux_reads_and_writes_what_is_there(
    cloud_kernel: Path, ramdisk: bytes, cd: Path, tmp_path: Path, transfers: str, options: str
) -> None:
    disk, other = tmp_path / "disk", tmp_path / "other"
    disk.write_bytes(DISK)
    other.write_bytes(OTHER)
    with closing(
        hv.boot(
            cloud_kernel,
            memory="128M",
            append=f"console=ttyS0 {options}",
            initrd=ramdisk,
            cdrom=cd,
            disks=[disk, hv.Disk(other, mode="write")],
        )
    ) as vm:
        result = vm.run(until="DONE", timeout=120)
        console = vm.console.text
    assert result.reason is hv.Reason.UNTIL, f"{result.message}\n{console[-4000:]}"
    written = OTHER[: 3 * 4096] + DISK[: 512 * 4096] + OTHER[515 * 4096 :]
    for name, content in (("sda", DISK), ("sdb", OTHER), ("sr0", cd.read_bytes()), ("written", written)):
        assert f"sum {name} {hashlib.sha256(content).hexdigest()}" in console
    assert "file hello from a CD" in console
    assert f"mode of disk {transfers}" in console and f"mode of CD {transfers}" in console
    for complaint in ("exception Emask", "failed command", "I/O error", "lost interrupt", "BUG:", "WARNING:"):
        assert complaint not in console
    assert disk.read_bytes() == DISK  # the overlay kept what was written, if anything was
    assert other.read_bytes() == written  # and this one was to be written


TRIM = (
    READY
    + "".join(f"busybox insmod /{Path(module).name}.ko\n" for module in MODULES)
    + """
n=0
while [ ! -b /dev/sdb ]; do sleep 0.1; n=$((n+1)); [ $n = 100 ] && break; done
sync_write() {
    busybox dd if=/dev/urandom of=$1 bs=4096 count=512 conv=fsync 2>&1 | busybox grep -c 'Input/output error'
}
echo "errors of sda $(sync_write /dev/sda)"
busybox blkdiscard /dev/sda && echo "discarded"
busybox sh -c 'echo 3 > /proc/sys/vm/drop_caches'
echo "sum $(busybox sha256sum < /dev/sda)"
echo "errors of sdb $(sync_write /dev/sdb)"
echo DONE
exec poweroff -f
"""
)


def test_linux_gives_room_back_and_meets_the_errors_of_one_disk_only(
    cloud_kernel: Path, debian_file: Callable[[str, str], Path]
) -> None:
    """By its own driver: TRIM, a limit on bandwidth, and a disk whose writes all fail."""
    entries = []
    for module in MODULES:
        path = debian_path(kernel_package(), f"lib/modules/*/kernel/{module}.ko")
        entries.append(Entry(path.name, 0o100644, path.read_bytes()))
    busybox = debian_file("busybox-static", "bin/busybox").read_bytes()
    disks = [hv.Disk(DISK, bandwidth="8M"), hv.Disk(OTHER, write_errors=1.0)]
    with closing(
        hv.boot(
            cloud_kernel,
            memory="128M",
            append="console=ttyS0",
            initrd=initramfs(TRIM, busybox) + newc(entries),
            disks=disks,
        )
    ) as vm:
        vm.run(until="errors of sda 0", timeout=120).check()
        began, overlay = vm.clock.now_ns, vm.media.disks[0].source
        assert overlay.written >= 2 << 20
        vm.run(until="DONE", timeout=240).check()
        text = vm.console.text
        assert "discarded" in text and f"sum {hashlib.sha256(DISK).hexdigest()}" in text
        assert overlay.written == 0 and vm.media.disks[1].source.written == 0
        assert "errors of sdb 1" in text and "I/O error, dev sdb" in text and "I/O error, dev sda" not in text
        assert vm.clock.now_ns - began > len(DISK) / (8 << 20) * 1e9  # reading it all again
