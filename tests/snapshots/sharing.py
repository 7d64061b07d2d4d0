"""Relatives on two pCPUs that write the same pages: ``python -m tests.snapshots.sharing [--minutes 5] [--forks 3]``.

Each machine has a number, which it writes into every page of 1 MiB, round by round, and finds there again: a byte of
another one, or of another round, ends its run. Its code lies in pages that are shared, too, and it changes one of its
instructions in each round. Machines come and go, are put back to the beginning, and become the ones that others go on
from, clones among them; and frames that hold the same are merged all the while.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import hypervisor as hv
from hypervisor.assembler import assemble
from tests.meanwhile import again_and_again
from tests.memory.maps import census

PATIENCE_S = 10.0
AT, NUMBER, PAGES, COUNT = 0x8000, 0x9000, 0x100000, 256
SOURCE = f"""
again:
    mov edx, [{NUMBER}]         # what is in the pages: number << 24 | round
    mov edi, {PAGES}
compare:
    cmp [edi], edx
    jne wrong
    cmp [edi + 4092], edx
    jne wrong
    inc edx                     # of the next round
    mov [edi], edx
    mov [edi + 4092], edx
    dec edx
    add edi, 4096
    cmp edi, {PAGES + COUNT * 4096}
    jb compare
    inc edx
    mov [{NUMBER}], edx
    mov eax, edx
    mov [changed + 1], eax      # the instruction's own number
changed:
    mov ebx, 0
    cmp ebx, edx
    jne wrong
    inc dword ptr [{NUMBER + 4}]
    jmp again
wrong:
    hlt
"""
CODE = assemble(SOURCE, origin=AT, mode=32).code


def machine(host: hv.Host) -> hv.VM:
    """The first of them."""
    return host.create_vm(CODE, memory="4M", format="flat", mode=32, at=AT)


def name(vm: hv.VM, number: int) -> None:
    """Let a machine be this one: what it finds in its pages is what it would have written."""
    word = (number << 24).to_bytes(4, "little")
    vm.memory.write(NUMBER, word)
    for page in range(COUNT):
        vm.memory.write(PAGES + 4096 * page, word)
        vm.memory.write(PAGES + 4096 * page + 4092, word)


def check(vm: hv.VM, number: int) -> int:
    """Compare all its pages with its number; how many rounds it has made."""
    assert vm.result is None or vm.result.reason is hv.Reason.VIRTUAL_TIMEOUT, vm.result
    now = int.from_bytes(vm.memory.read(NUMBER, 4), "little")
    assert now >> 24 == number
    for page in range(COUNT):
        for at in (0, 4092):
            seen = int.from_bytes(vm.memory.read(PAGES + 4096 * page + at, 4), "little")
            assert seen in (now, now + 1), f"{vm.name} has {seen:#x} in page {page}, and is {now:#x}"
    return int.from_bytes(vm.memory.read(NUMBER + 4, 4), "little")


def for_a_moment(vm: hv.VM, seconds: float, patience_s: float = PATIENCE_S) -> None:
    """Run a machine for a moment of its time. Raises AssertionError if that does not end: it has something in memory
    that it has not stored.
    """
    result = vm.run(virtual_timeout=seconds, timeout=patience_s)
    assert result.reason is not hv.Reason.TIMEOUT, (
        f"{vm.name} has not come through {seconds:g} s of its time in {patience_s:g} s: {result.message}."
    )


class Family:
    """Machines in threads of their own, each of which lets others go on from itself."""

    def __init__(self, host: hv.Host, until: float) -> None:
        self.host, self._until = host, until
        self.problems: list[BaseException] = []
        self.rounds = self.forks = self.reverts = 0

    def live(self, vm: hv.VM, number: int) -> None:
        """The life of one machine, which is another one again and again."""
        rng = random.Random(number)
        try:
            while time.monotonic() < self._until and not self.problems:
                name(vm, number)
                with vm.snapshot() as beginning:
                    self.run(vm, rng)
                    with vm.snapshot() as moment, rng.choice((moment.fork, moment.clone))() as child:
                        self.forks += 1
                        self.run(child, rng)
                        self.run(vm, rng)
                        check(child, number)
                        child.revert(beginning)
                        self.run(child, rng)
                        check(child, number)
                    self.rounds += check(vm, number)
                    vm.revert(beginning)
                    self.reverts += 2
                    assert check(vm, number) == int.from_bytes(vm.memory.read(NUMBER + 4, 4), "little")
        except BaseException as problem:
            self.problems.append(problem)

    @staticmethod
    def run(vm: hv.VM, rng: random.Random) -> None:
        """For some blocks."""
        for_a_moment(vm, rng.randrange(1, 400) / 1e6)


@contextmanager
def family(seconds: float, forks: int) -> Iterator[Family]:
    """So many relatives that have lived for so long."""
    with hv.Host("8M", 2) as host, machine(host) as first:
        found = Family(host, time.monotonic() + seconds)
        relatives = [first, *(first.fork() for _ in range(forks))]
        threads = [threading.Thread(target=found.live, args=(vm, n + 1)) for n, vm in enumerate(relatives)]
        with again_and_again(host.sharing.scan, 0.002, random.Random(forks)):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if found.problems:
            raise found.problems[0]
        census(host.memory, [vm.memory.pages for vm in host.vms], host.sharing.frames)
        yield found
        for vm in list(host.vms):
            vm.close()
        census(host.memory, [])


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--forks", type=int, default=3)
    given = parser.parse_args()
    with family(60 * given.minutes, given.forks) as found:
        print(
            f"{given.forks + 1} relatives for {given.minutes:g} minutes: {found.rounds} rounds over {COUNT} pages, "
            f"{found.forks} forks, {found.reverts} times put back; every page was the right one, every frame is counted"
        )


if __name__ == "__main__":
    main()
