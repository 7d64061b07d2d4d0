"""What a VM's drives may move in a second of the host: it waits for it, its guest sees nothing, and others go on."""

from __future__ import annotations

import random
import time
from contextlib import closing

import pytest

import hypervisor as hv
from hypervisor.run.sharing.share import Allowance
from hypervisor.units import MIB
from tests.sectors import boot_sector

READS = """
    mov bp, 1024
again: mov ax, 0x0208; mov bx, 0x9000; mov cx, 1; mov dx, DRIVE; int 0x13
    jc failed
    dec bp
    jnz again
    mov dx, 0x3f8; mov al, '.'; out dx, al
failed: cli; hlt
"""
"""Reads 4 KiB 1,024 times."""
MOVED, LIMIT = 4 * MIB, 16 * MIB


def config(drive: str) -> hv.MachineConfig:
    image = boot_sector(READS.replace("DRIVE", "0x80" if drive == "disk" else "0")).ljust(1440 << 10, b"\0")
    described = {"disks": (hv.Disk(image),)} if drive == "disk" else {"floppy": image}
    return hv.MachineConfig(memory="4M", name=drive, **described)  # type: ignore[arg-type]


def seen(vm: hv.VM) -> tuple[object, ...]:
    assert vm.result is not None
    return vm.result.reason, vm.serial[0].text, vm.clock.now_ns, vm.figures().exits


@pytest.mark.parametrize("drive", ["disk", "floppy"])
def test_it_takes_as_long_as_that_and_the_guest_cannot_tell(drive: str) -> None:
    with closing(hv.Host("16M", 1)) as host, host.create_vm(config(drive)) as vm:
        vm.run(timeout=60)
        expected = seen(vm)
        assert expected[1] == "."
        free = sum(one.read_bytes for one in vm.media.by_drive().values())
        assert free >= MOVED
    with closing(hv.Host("16M", 1)) as host, host.create_vm(config(drive)) as vm:
        vm.share = hv.Share(drive_bandwidth=LIMIT)
        start = time.monotonic()
        vm.run(timeout=60)
        took = time.monotonic() - start
        assert seen(vm) == expected
        assert took > 0.7 * MOVED / LIMIT, "all but what comes in the last slice has been waited for"
        assert vm.usage.blocked_s > 0.1 and host.usage[0].idle_s > 0.1, "the pCPU is anybody's meanwhile"


def test_what_is_allowed_is_what_was_said_over_any_time() -> None:
    """A bucket without a reserve: by a clock of our own, with whatever is moved in each slice, and sleeps between."""
    rng = random.Random(5)
    share, allowance, now, moved = hv.Share(drive_bandwidth=1_000_000), Allowance(), 100.0, 0
    allowance.moved = lambda: moved
    slices: list[tuple[float, int]] = []
    for _ in range(2000):
        opens = allowance.opens(share, now)
        if opens:
            assert opens > now
            now = opens + rng.random() * 0.001
            continue
        size = rng.choice((0, 0, 4096, 65536))
        slices.append((now, size))
        moved += size
        now += rng.random() * 0.01
        if rng.random() < 0.02:
            now += 5.0  # asleep: nothing is saved up
    for first in range(0, len(slices), 50):
        since = slices[first][0]
        total = 0
        for at, size in slices[first:]:
            assert total <= (at - since) * 1_000_000 + 65536 + 1
            total += size


def test_a_limit_that_is_taken_off_is_forgotten() -> None:
    moved, allowance = 0, Allowance()
    allowance.moved = lambda: moved
    assert allowance.opens(hv.Share(drive_bandwidth="1M"), 1.0) == 0
    moved = 100 * MIB
    assert allowance.opens(hv.Share(drive_bandwidth="1M"), 1.1) > 90
    assert allowance.opens(hv.Share(), 1.2) == 0


def test_what_means_nothing_is_refused() -> None:
    for wrong in (100, "1K", "ten"):
        with pytest.raises(hv.ConfigError):
            hv.Share(drive_bandwidth=wrong)
    text = '[vm.a]\nimage = "hello"\ndrive_bandwidth = "10M"\n'
    assert hv.FleetConfig.from_toml(text).machines["a"].share == hv.Share(drive_bandwidth="10M")
