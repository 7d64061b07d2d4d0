"""The Xen hypervisor from its Debian package, unmodified, by multiboot: a kernel that is a hypervisor itself."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import hypervisor as hv
from tests.debian import kernel_package
from tests.initramfs import POWER_OFF

OPTIONS = "console=com1 com1=115200,8n1 loglvl=all noreboot dom0_mem=256M"


@pytest.fixture(scope="module")
def xen(debian_file: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hypervisor, which its package compresses."""
    path = tmp_path_factory.mktemp("xen") / "xen"
    path.write_bytes(gzip.decompress(debian_file("xen-hypervisor-4.17-amd64", "boot/xen-*.gz").read_bytes()))
    return path


def boot(xen: Path, kernel: Path, initrd: Path) -> hv.VM:
    modules = [(str(kernel), "console=hvc0"), (str(initrd), "")]
    return hv.boot(xen, memory="512M", append=OPTIONS, modules=modules, cpus=2)


def test_it_starts_every_processor(xen: Path, cloud_kernel: Path, initramfs: Callable[[str], Path]) -> None:
    with closing(boot(xen, cloud_kernel, initramfs(POWER_OFF))) as vm:
        result = vm.run(until="Brought up 2 CPUs", timeout=60, virtual_timeout=20)
        text = vm.serial[0].text
    assert result.reason is hv.Reason.UNTIL, f"{result.message}\n{text[-3000:]}"
    assert "(XEN) Xen version 4.17" in text


@pytest.mark.stress
def test_its_first_domain_runs_and_powers_off(
    xen: Path, debian_file: Callable[[str, str], Path], initramfs: Callable[[str], Path]
) -> None:
    """Linux as a paravirtual guest of Xen's on both processors, to userspace and to S5.

    Debian's cloud kernel cannot be the first domain.
    """
    kernel = debian_file(kernel_package().replace("-cloud-", "-"), "boot/vmlinuz-*")
    with closing(boot(xen, kernel, initramfs(POWER_OFF))) as vm:
        result = vm.run(timeout=600)
        text = vm.serial[0].text
    assert result.reason is hv.Reason.POWERED_OFF, f"{result.message}\n{text[-3000:]}"
    assert "READY" in text
    assert "Entering ACPI S5 state" in text
