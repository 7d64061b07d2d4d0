"""What the plots of docs/one_host.md show, measured: ``python -m bench.sharing_figures [--only NAME]``.

Writes docs/one_host.json, and says how busy the machine was. ``shares``: which part of a processor three guests get by
their own counters, while weights change. ``linux``: what Linux guests of 256 MiB take, one after the other, before and
after a scan. ``clones``: what clones of a Linux guest take, before and after they have run. ``swap``: where the pages
of guests are that want more than the host has. ``disks``: what guests read from limited disks. Only figures that other
work on the machine does not change are among them: counters, bytes, and virtual time.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import hypervisor as hv
from bench.process import TIMEOUT_S, private_bytes
from bench.sharing import SMALLEST, WORK, linux
from hypervisor.assembler import assemble
from hypervisor.units import MIB
from tests.sectors import boot_sector
from tests.sharing.guests import computed, counting, until_computed

PATH = Path(__file__).parent.parent / "docs" / "one_host.json"
Data = dict[str, Any]

READS = """
again: mov ax, 0x0208; mov bx, 0x9000; mov cx, 1; mov dx, 0x80; int 0x13
    mov dx, 0x3f8; mov al, '.'; out dx, al
    jmp again
"""
"""Reads 4 KiB again and again, and writes a dot for each."""
DISKS: dict[str, dict[str, Any]] = {
    "no limit": {},
    "bandwidth 1M": {"bandwidth": "1M"},
    "bandwidth 256K": {"bandwidth": "256K"},
    "iops 100": {"iops": 100},
}
AT = 0x10000
STORES = f"""
    mov edi, {MIB}
page:
    mov [edi], edi
    add edi, 4096
    cmp edi, {11 * MIB}
    jb page
    cli
    hlt
"""
"""Stores to 10 MiB."""


def shares() -> Data:
    """Weights of 1, 2 and 5 on one pCPU; 5, 2 and 1 from the middle on; and then the second one sleeps."""
    times, parts = [0.0], []
    with hv.Host("16M", 1, scheduler="credit") as host:
        with counting(host, [hv.Share(weight=weight) for weight in (1, 2, 5)]) as vms:
            for vm in vms:
                vm.start()
            until_computed(vms, 0.2, 60.0)
            first, before = computed(vms), [vm.usage.run_s for vm in vms]
            for step in range(1, 19):
                if step == 7:
                    for vm, weight in zip(vms, (5, 2, 1), strict=True):
                        vm.share = hv.Share(weight=weight)
                if step == 13:
                    vms[1].pause()
                until_computed(vms, first + step * 1.0 - computed(vms), 60.0)
                now = [vm.usage.run_s for vm in vms]
                got = [one - two for one, two in zip(now, before, strict=True)]
                parts.append([round(one / sum(got), 4) for one in got])
                times.append(round(sum(now) - first, 3))
                before = now
            vms[1].resume()
            for vm in vms:
                vm.stop()
    return {"until_s": times[1:], "parts": parts, "weights": [[1, 2, 5], [5, 2, 1], [5, 0, 1]], "changes_s": [6, 12]}


def linuxes(count: int = 10) -> Data:
    """Linux guests of 256 MiB, each with its own seed, booted one by one and scanned."""
    unshared, scanned, alone = [], [], 0
    with closing(hv.Host(count * 256 * MIB, 1)) as host:
        for number in range(count):
            before = host.memory.used
            linux(host, "256M", seed=number)
            alone += host.memory.used - before
            host.sharing.scan(3)
            unshared.append(round(alone / MIB, 1))
            scanned.append(round(host.memory.used / MIB, 1))
    return {"unshared_mib": unshared, "scanned_mib": scanned, "promised_mib": 256 * count}


def clones(count: int = 1000, run: int = 100) -> Data:
    """Clones of a Linux guest of 96 MiB: MiB of the process for so many of them, all that it needs for them, and of
    frames for those that have worked for 10 virtual seconds.
    """
    made, fresh, worked = [], [], []
    with closing(hv.Host(SMALLEST, 1)) as host, ExitStack() as stack:
        moment = stack.enter_context(linux(host, SMALLEST, WORK).snapshot())
        moment.clone("first").close()
        start = private_bytes()
        for number in range(count):
            made.append(moment.clone(f"clone {number}"))
            if number % 50 == 49:
                fresh.append([number + 1, round((private_bytes() - start) / MIB, 2)])
        start = host.memory.used
        for number, one in enumerate(made[:run], 1):
            one.run(virtual_timeout=10.0, timeout=TIMEOUT_S)
            if number % 10 == 0:
                worked.append([number, round((host.memory.used - start) / MIB, 2)])
    return {"fresh_mib": fresh, "worked_mib": worked, "size_mib": 96}


def swap() -> Data:
    """Three guests that store to 10 MiB each, one after the other, on a host of 16 MiB with a swap file of 32."""
    stored, frames, file = [], [], []
    code = assemble(STORES, origin=AT, mode=32).code
    with closing(hv.Host("16M", 1, overcommit=4, swap="32M")) as host:
        for number in range(3):
            vm = host.create_vm(code, memory="16M", format="flat", at=AT, mode=32, name=f"vm{number}")
            ended = False
            while not ended:
                ended = vm.run(virtual_timeout=2e-6, timeout=TIMEOUT_S).reason is hv.Reason.HALTED
                done = sum((max(one.vcpu.edi, MIB) - MIB) / MIB for one in host.vms)
                stored.append(round(done, 2))
                frames.append(round(host.memory.used / MIB, 2))
                file.append(round(host.memory.swapped / MIB, 2))
    return {"stored_mib": stored, "frames_mib": frames, "file_mib": file, "host_mib": 16}


def disks() -> Data:
    """KiB read by so many milliseconds of virtual time."""
    found: Data = {"ms": list(range(0, 1001, 50))}
    for name, limits in DISKS.items():
        image = boot_sector(READS).ljust(MIB, b"\0")
        described = hv.MachineConfig(disks=(hv.Disk(image, **limits),), memory="4M", name="reads")
        kib = []
        with hv.boot(described) as vm:
            for ms in found["ms"]:
                if ms:
                    vm.run(virtual_timeout=ms / 1000 - vm.clock.now_ns / 1e9, timeout=TIMEOUT_S)
                kib.append(4 * vm.serial[0].text.count("."))
        found[name] = kib
    return found


PARTS: dict[str, Callable[[], Data]] = {
    "shares": shares, "linux": linuxes, "clones": clones, "swap": swap, "disks": disks,
}  # fmt: skip


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(PARTS), action="append")
    given = parser.parse_args()
    data: Data = json.loads(PATH.read_text()) if PATH.exists() else {}
    for name, measure in PARTS.items():
        if not given.only or name in given.only:
            data[name] = measure()
            print(f"{name}, at a load of {os.getloadavg()[0]:.1f}: {json.dumps(data[name])}", flush=True)
    PATH.write_text(json.dumps(data, indent=None, separators=(",", ":")).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
