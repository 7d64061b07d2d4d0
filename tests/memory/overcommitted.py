"""Guests that check each byte of their working sets, on a host that has promised twice what it has:
``python -m tests.memory.overcommitted [--minutes 60] [--seed 1] [--swap 16M] [--memtest 2]``.

Each guest has pages that are the same in all of them, pages of its own that are others in each round, and pages that
are zeros in every other round; together that is more than the host has, unless they share. In each round it stores to
the last two kinds and compares all bytes of all three. It has others that it gives to its balloon when the host asks,
and fills again when it may. Meanwhile their frames are merged, clones of them come and go,
they are put back, and closed and made again, on two pCPUs; with ``--swap`` their pages go to a swap file. A guest may
be stopped because the host's memory is used up; it may find no wrong byte, and when all is over every frame is counted.
With ``--memtest`` so many memtest86+ test their memory beside them, on a host that is larger by half of theirs.
"""

from __future__ import annotations

import argparse
import random
import re
import threading
import time
from collections import Counter
from contextlib import closing

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.units import PAGE_SHIFT
from tests.debian import debian_path
from tests.meanwhile import again_and_again
from tests.memory.giving import GIVEN, NUMBER, ROUND, balloon_of, balloon_source
from tests.memory.maps import census
from tests.real.test_memtest import BIT_FADE, OPTIONS
from tests.snapshots.sharing import for_a_moment

PATIENCE_S = 120.0
"""It takes some twenty times as long as the guest's time, and the host may be busy."""
GUESTS, HOST_MIB, SMALL_HOST_MIB, MEMORY = 4, 14, 6, "6M"
MEMTEST_MIB = 8
AT = 0x10000
COMMON, OWN, CHANGING, END = 0x100000, 0x400000, 0x440000, 0x480000
GIVES, GIVES_PAGES = 0x500000, 128
SOURCE = f"""
    mov edi, {COMMON}
make:
    call fill_common
    cmp edi, {OWN}
    jb make
    mov edi, {GIVES}
make_gives:
    call fill_common
    cmp edi, {GIVES + (GIVES_PAGES << PAGE_SHIFT)}
    jb make_gives
again:
    inc dword ptr [{ROUND}]
    call balloon
    mov edx, [{GIVEN}]           # those that are not given are what they were
    shl edx, 12
    lea edi, [edx + {GIVES}]
kept:
    cmp edi, {GIVES + (GIVES_PAGES << PAGE_SHIFT)}
    jae all_kept
    call value
    mov ecx, 1024
    repe scasd
    jne wrong
    jmp kept
all_kept:
    mov edi, {OWN}
store:
    call value
    mov ecx, 1024
    rep stosd
    cmp edi, {END}
    jb store
    mov edi, {COMMON}
compare:
    call value
    mov ecx, 1024
    repe scasd
    jne wrong
    cmp edi, {END}
    jb compare
    jmp again
wrong:
    hlt
fill_common:
    call value
    mov ecx, 1024
    rep stosd
    ret
value:                          # what the page at EDI is full of
    mov eax, edi
    imul eax, eax, 0x01000193
    cmp edi, {OWN}
    jb known
    mov ebx, [{NUMBER}]
    shl ebx, 24
    xor eax, ebx
    cmp edi, {GIVES}
    jae known
    xor eax, [{ROUND}]
    cmp edi, {CHANGING}
    jb known
    test dword ptr [{ROUND}], 1
    jz known
    xor eax, eax
known:
    ret
""" + balloon_source(GIVES, GIVES_PAGES)
CODE = assemble(SOURCE, origin=AT, mode=32).code


def rounds(vm: hv.VM) -> int:
    """How many rounds its guest has begun."""
    return int.from_bytes(vm.memory.read(ROUND, 4), "little")


class Tenants:
    """The guests of one host, each looked after in a thread of its own."""

    def __init__(self, host: hv.Host, until: float, seed: int) -> None:
        self.host, self._until, self._seed = host, until, seed
        self.done: Counter[str] = Counter()
        self.problems: list[BaseException] = []

    def begin(self, number: int) -> hv.VM:
        """A guest that has made its pages, of which others have most."""
        clock = "wall" if number & 1 else "virtual"
        vm = self.host.create_vm(
            CODE,
            memory=MEMORY,
            format="flat",
            mode=32,
            at=AT,
            name=f"guest {number}",
            clock=clock,
            plugins=[hv.Balloon],
        )
        vm.vcpu.esp = AT
        vm.memory.write(NUMBER, bytes([number]))
        return vm

    def first_round(self, vm: hv.VM) -> None:
        """Until its guest has begun another round."""
        wanted = rounds(vm) + 1
        while rounds(vm) < wanted:
            self.run(vm, 0.0005)

    def run(self, vm: hv.VM, seconds: float) -> None:
        """For a moment of its time."""
        for_a_moment(vm, seconds, PATIENCE_S)
        assert vm.result is not None
        if vm.result.reason is hv.Reason.STOPPED:
            raise hv.HostFull(vm.result.message)
        assert vm.result.reason is hv.Reason.VIRTUAL_TIMEOUT, f"{vm.name} has found a wrong byte: {vm.result}"

    def live(self, vm: hv.VM, number: int) -> None:
        """The life of one guest."""
        rng = random.Random(f"{self._seed} {number}")
        try:
            while time.monotonic() < self._until and not self.problems:
                if vm.closed:
                    vm = self._begin_again(vm, number)
                    continue
                try:
                    self.run(vm, rng.randrange(1, 8000) / 1e6)
                    if rng.random() < 0.1:
                        self._clone(vm, rng)
                except hv.HostFull:
                    self.done["stopped"] += 1
                    self._end(vm)
                if rng.random() < 0.02:
                    self._end(vm)
            self._end(vm)
        except BaseException as problem:
            self.problems.append(problem)

    def test(self, number: int) -> None:
        """A memtest86+, which begins again when all of its tests but the last have been made."""
        rng, image = (
            random.Random(f"{self._seed} memtest {number}"),
            debian_path("memtest86+", "boot/memtest86+x64.bin"),
        )
        try:
            while time.monotonic() < self._until and not self.problems:
                try:
                    with self.host.create_vm(
                        image, memory=f"{MEMTEST_MIB}M", append=OPTIONS, name=f"memtest {number}"
                    ) as vm:
                        self._test(vm, rng)
                except hv.HostFull:
                    self.done["memtests stopped"] += 1
                    time.sleep(0.02)
        except BaseException as problem:
            self.problems.append(problem)

    def _test(self, vm: hv.VM, rng: random.Random) -> None:
        while time.monotonic() < self._until and not self.problems:
            self.run(vm, rng.randrange(1, 8000) / 1e6)
            assert vm.console is not None
            counted = re.findall(r"Errors: *(\d+)", vm.console.text)
            assert set(counted) <= {"0"}, f"{vm.name} has found a wrong byte: {vm.console.text[-2000:]}"
            if counted and BIT_FADE in vm.console.text:
                self.done["memtests"] += 1
                return
            if rng.random() < 0.01:
                self._clone(vm, rng)

    def _begin_again(self, before: hv.VM, number: int) -> hv.VM:
        """A guest in the place of one that was closed; that one if the others have taken what is kept for it."""
        try:
            vm = self.begin(number)
        except hv.HostFull:
            self.done["refused"] += 1
            time.sleep(0.02)
            return before
        self.done["begun"] += 1
        return vm

    def _end(self, vm: hv.VM) -> None:
        if not vm.closed:
            self.done["rounds"] += rounds(vm)
            self.done["pages given"] += balloon_of(vm).given
            vm.close()

    def _clone(self, vm: hv.VM, rng: random.Random) -> None:
        try:
            moment = vm.snapshot()
        except hv.HostFull:
            self.done["snapshots refused"] += 1
            return
        with moment:
            try:
                with moment.clone() as clone:
                    self.run(clone, rng.randrange(1, 500) / 1e6)
                self.done["clones"] += 1
            except hv.HostFull:
                self.done["clones stopped"] += 1
            if rng.random() < 0.5:
                self.run(vm, rng.randrange(1, 500) / 1e6)
                vm.revert(moment)
                self.done["put back"] += 1


def work(seconds: float, seed: int, swap: str | None = None, memtests: int = 0) -> Counter[str]:
    """What came of guests that lived for so long."""
    ratio = 2 if swap is None else 4
    mib = (HOST_MIB if swap is None else SMALL_HOST_MIB) + MEMTEST_MIB * memtests // ratio
    with closing(hv.Host(f"{mib}M", 2, overcommit=ratio, swap=swap)) as host:
        tenants = Tenants(host, time.monotonic() + seconds, seed)
        vms = []
        for number in range(GUESTS):
            vms.append(tenants.begin(number))
            tenants.first_round(vms[-1])
            host.sharing.scan(3)
        threads = [threading.Thread(target=tenants.live, args=(vm, n)) for n, vm in enumerate(vms)]
        threads += [threading.Thread(target=tenants.test, args=(n,)) for n in range(memtests)]
        with again_and_again(host.sharing.scan, 0.002, random.Random(seed)):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if tenants.problems:
            raise tenants.problems[0]
        census(host.memory, [vm.memory.pages for vm in host.vms], host.sharing.frames)
        tenants.done.update({"merged": host.sharing.counts.replaced, "zeroed": host.sharing.counts.zeroed})
        for left in list(host.vms):
            left.close()
        census(host.memory, [], host.sharing.frames)
        if host.swapping is not None:
            tenants.done["swapped"] = host.swapping.written
            assert not host.memory.swapped, "nobody is left whose pages these could be"
        return tenants.done


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--swap", help="the size of a swap file; the host has half as much memory then")
    parser.add_argument("--memtest", type=int, default=0, help="how many memtest86+ test their memory beside them")
    given = parser.parse_args()
    done = work(60 * given.minutes, given.seed, given.swap, given.memtest)
    print(
        f"{given.minutes:g} minutes, not a wrong byte: {', '.join(f'{count} {what}' for what, count in done.items())}"
    )


if __name__ == "__main__":
    main()
