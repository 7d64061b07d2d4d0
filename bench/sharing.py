"""What machines on one host have in common: ``python -m bench.sharing clones|linux|throughput``.

``clones`` [--count 1000] [--run 100]: clones of a Linux guest of 96 MiB that has work once in a second: how long each
takes, how much memory before it runs, and after each of ``--run`` has worked for 10 virtual seconds.
``linux`` [--count 10]: Linux guests of 256 MiB, booted one by one and scanned: what they take of what they took without
that. ``throughput`` [--pairs 5]: rounds of guests that compute while they are scanned, of those that they make for as
much CPU time when nobody scans, in alternation. Figures on a busy machine say little: each command says how busy it is.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import ExitStack, closing
from random import Random
from statistics import median

import hypervisor as hv
from bench.process import TIMEOUT_S, private_bytes
from hypervisor.assembler import assemble
from hypervisor.units import MIB, PAGE_SIZE
from tests.debian import debian_path, kernel_package
from tests.initramfs import READY, initramfs

WORK = "while true; do sleep 1; echo . > /tmp/now; done\n"
SMALLEST = "96M"
"""In which Debian's kernel starts."""
AT = 0x10000
COMPUTES = f"""
again:
    mov edi, {2 * MIB}
page:
    mov eax, [edi]
    xor [edi + 4], eax
    add edi, 64
    cmp edi, {6 * MIB}
    jb page
    inc dword ptr [0x20000]
    jmp again
"""
"""Reads and stores in 4 MiB, and counts its rounds."""
STRETCH_S = 2.0


def linux(host: hv.Host, memory: str, script: str = "exec sh\n", seed: int = 0) -> hv.VM:
    """Debian's kernel at a busybox shell, with addresses that come from the seed."""
    archive = initramfs(READY + script, debian_path("busybox-static", "bin/busybox").read_bytes())
    kernel = str(debian_path(kernel_package(), "boot/vmlinuz-*"))
    vm = host.create_vm(kernel, initrd=archive, append="console=ttyS0", memory=memory, seed=seed)
    vm.run(until="READY", timeout=TIMEOUT_S)
    return vm


def clones(count: int, run: int) -> None:
    """See above."""
    with closing(hv.Host(SMALLEST, 1)) as host, ExitStack() as stack:
        vm = linux(host, SMALLEST, WORK)
        moment = stack.enter_context(vm.snapshot())
        moment.clone("first").close()
        private, used, times, made = private_bytes(), host.memory.used, [], []
        for number in range(count):
            start = time.perf_counter(), time.process_time()
            made.append(moment.clone(f"clone {number}"))
            times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        each = (private_bytes() - private) / count / MIB
        took, worked = (median(each) * 1e3 for each in zip(*times, strict=True))
        print(f"{count} clones: {took:.2f} ms each ({worked:.2f} of CPU time), {each:.3f} MiB each before they run")
        used, dirty = host.memory.used, 0
        for one in made[:run]:
            one.run(virtual_timeout=10.0, timeout=TIMEOUT_S)
            dirty += one.memory.pages.alone
        taken = host.memory.used - used
        pages = dirty / PAGE_SIZE / run
        print(
            f"{run} of them after 10 virtual seconds of work: {pages:.0f} dirty frames each, {taken / dirty:.3f} of it"
        )


def of_linux(count: int) -> None:
    """See above."""
    with closing(hv.Host(count * 256 * MIB, 1)) as host:
        alone = 0
        for number in range(count):
            before = host.memory.used
            linux(host, "256M", seed=number)
            alone += host.memory.used - before
            counts = host.sharing.scan(3)
            share = host.memory.used / alone
            print(f"{number + 1} booted: {host.memory.used / MIB:.1f} of {alone / MIB:.1f} MiB, {share:.3f}", counts)


def rounds(vms: list[hv.VM]) -> float:
    """Let all run for a stretch; rounds that they have made in a second of this process's CPU time."""
    before, start = [int.from_bytes(vm.memory.read(0x20000, 4), "little") for vm in vms], time.process_time()
    for vm in vms:
        vm.start(timeout=STRETCH_S)
    for vm in vms:
        vm.wait()
    took = time.process_time() - start
    return (sum(int.from_bytes(vm.memory.read(0x20000, 4), "little") for vm in vms) - sum(before)) / took


def throughput(pairs: int) -> None:
    """See above."""
    code = assemble(COMPUTES, origin=AT, mode=32).code
    with closing(hv.Host("64M", 2)) as host:
        vms = [host.create_vm(code, memory="32M", format="flat", at=AT, mode=32) for _ in range(2)]
        for seed, vm in enumerate(vms):  # which no other page is like, so that all is looked at in each round
            vm.memory.write(8 * MIB, Random(seed).randbytes(16 * MIB))
        rounds(vms)
        ratios = []
        for _ in range(pairs):
            without = rounds(vms)
            host.sharing.start()
            ratios.append(rounds(vms) / without)
            host.sharing.stop()
        each = ", ".join(f"{one:.3f}" for one in ratios)
        print(f"while it is scanned: {median(ratios):.3f} of the rounds for CPU time ({each})")
        print(host.sharing.counts)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("clones", "linux", "throughput"))
    parser.add_argument("--count", type=int)
    parser.add_argument("--run", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    if given.what == "clones":
        clones(given.count or 1000, given.run)
    elif given.what == "linux":
        of_linux(given.count or 10)
    else:
        throughput(given.pairs)


if __name__ == "__main__":
    main()
