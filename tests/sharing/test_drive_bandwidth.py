"""What a VM's drives may move in a second of the host, and how often: it waits for it, its guest sees nothing, and
others go on.
"""

from __future__ import annotations

import random
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.run.sharing.share import Allowance, Moved
from hypervisor.units import MIB
from hypervisor.vm.config import parse_removable
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
MOVED, LIMIT, OFTEN = 4 * MIB, 16 * MIB, 4096


def config(drive: str) -> hv.MachineConfig:
    image = boot_sector(READS.replace("DRIVE", "0x80" if drive == "disk" else "0")).ljust(1440 << 10, b"\0")
    described = {"disks": (hv.Disk(image),)} if drive == "disk" else {"floppy": image}
    return hv.MachineConfig(memory="4M", name=drive, **described)  # type: ignore[arg-type]


def seen(vm: hv.VM) -> tuple[object, ...]:
    assert vm.result is not None
    return vm.result.reason, vm.serial[0].text, vm.clock.now_ns, vm.figures().exits


@pytest.mark.parametrize(
    ("drive", "share"),
    [
        ("disk", hv.Share(drive_bandwidth=LIMIT)),
        ("floppy", hv.Share(drive_bandwidth=LIMIT)),
        ("disk", hv.Share(drive_iops=OFTEN)),
    ],
)
def test_it_takes_as_long_as_that_and_the_guest_cannot_tell(drive: str, share: hv.Share) -> None:
    with closing(hv.Host("16M", 1)) as host, host.create_vm(config(drive)) as vm:
        vm.run(timeout=60)
        expected = seen(vm)
        assert expected[1] == "."
        moved = vm.media.moved()
        assert moved.size >= MOVED and moved.times >= 1024
        least = 0.7 * (MOVED / LIMIT if share.drive_bandwidth else moved.times / OFTEN)
    with closing(hv.Host("16M", 1)) as host, host.create_vm(config(drive)) as vm:
        vm.share = share
        start = time.monotonic()
        vm.run(timeout=60)
        took = time.monotonic() - start
        assert seen(vm) == expected
        assert took > least, "all but what comes in the last slice has been waited for"
        stolen = vm.usage.stolen_s  # for which it need not wait
        assert min(vm.usage.blocked_s, host.usage[0].idle_s) > 0.1 - stolen, "the pCPU is anybody's meanwhile"


@pytest.mark.parametrize("by", ["drive_bandwidth", "drive_iops"])
def test_what_is_allowed_is_what_was_said_over_any_time(by: str) -> None:
    """A bucket without a reserve: by a clock of our own, with whatever is moved in each slice, and sleeps between."""
    rng = random.Random(5)
    given: dict[str, Any] = {by: 1_000_000}
    share, allowance, now, moved = hv.Share(**given), Allowance(), 100.0, 0
    allowance.moved = lambda: Moved(moved, 0) if by == "drive_bandwidth" else Moved(0, moved)
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
    allowance.moved = lambda: Moved(moved, moved)
    assert allowance.opens(hv.Share(drive_bandwidth="1M"), 1.0) == 0
    moved = 100 * MIB
    assert allowance.opens(hv.Share(drive_bandwidth="1M"), 1.1) > 90
    assert allowance.opens(hv.Share(), 1.2) == 0
    assert allowance.opens(hv.Share(drive_iops=1e6), 1.3) == 0
    moved += 20 * MIB
    both = hv.Share(drive_iops=1e6, drive_bandwidth="1M")
    assert 20 < allowance.opens(both, 1.4) < 23, "of the two what is later; the bandwidth is new"


def test_what_means_nothing_is_refused() -> None:
    for wrong in (100, "1K", "ten"):
        with pytest.raises(hv.ConfigError):
            hv.Share(drive_bandwidth=wrong)
    with pytest.raises(hv.ConfigError, match=r"drive_iops=0: give reads and writes a second, 0\.1 at least"):
        hv.Share(drive_iops=0)
    text = '[vm.a]\nimage = "hello"\ndrive_bandwidth = "10M"\ndrive_iops = 50\n'
    assert hv.FleetConfig.from_toml(text).machines["a"].share == hv.Share(drive_bandwidth="10M", drive_iops=50)


@pytest.mark.parametrize(("what", "option"), [("floppy", "bandwidth=1M"), ("cdrom", "iops=5")])
def test_diskettes_and_cds_with_limits_of_their_own_are_refused(what: str, option: str, tmp_path: Path) -> None:
    image = tmp_path / "a,b.img"
    image.write_bytes(bytes(1440 << 10))
    with pytest.raises(hv.ConfigError, match=f"{option}': diskettes and CDs have no limits"):
        parse_removable(f"{image},{option}")
    assert parse_removable(str(image)) == str(image)
    key, _, value = option.partition("=")
    limit: dict[str, Any] = {key: value if key == "bandwidth" else float(value)}
    limited: Any = hv.Disk(image, **limit)
    with pytest.raises(hv.ConfigError, match=f"{what}: {key}: diskettes and CDs have no limits"):
        hv.MachineConfig(**{what: limited})
