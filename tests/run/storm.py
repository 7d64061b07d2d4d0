"""Runs that are begun, paused, looked at, stopped and stepped at random, from many threads, on too few pCPUs.

``python -m tests.run.storm --seconds 600 --seed 1`` says what went wrong, and ends; each guest counts, and what arrives
must be what it counted: nothing lost, nothing twice. Whatever is asked of a VM must come to its end.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import hypervisor as hv
from hypervisor.errors import ConfigError, TrapError
from hypervisor.run.sharing import scheduler
from tests.core.smp import long_mode

PORT = 0x80
COUNTS = f"""
again:
    inc edi
    mov eax, edi
    out {PORT:#x}, eax
    in eax, {PORT:#x}
    add esi, eax
    mov ecx, 200
wait: dec ecx
    jnz wait
    jmp again
"""
SLEEPS = "sti; mov ebx, 1; sleep: hlt; jmp sleep"
HANG_S = 60.0
"""What has not ended by then hangs."""


@dataclass
class Guest:
    """A VM with what arrived of it."""

    vm: hv.VM
    arrived: list[int] = field(default_factory=list)

    def listen(self) -> None:
        """Note what it writes, and answer."""

        @self.vm.traps.port_out(PORT)
        def take(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            self.arrived.append(exit.value or 0)
            return hv.HANDLED

        @self.vm.traps.port_in(PORT)
        def give(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            exit.value = self.arrived[-1]
            return hv.HANDLED

    def problem(self) -> str:
        """What does not add up, between runs."""
        count = len(self.arrived)
        if self.arrived != list(range(1, count + 1)):
            return f"{self.vm.name}: not each count once"
        edi, esi = self.vm.vcpu.edi, self.vm.vcpu.esi
        before = (count - 1) * count // 2
        if edi not in (count, count + 1) or esi not in (before & 0xFFFFFFFF, before + count & 0xFFFFFFFF):
            return f"{self.vm.name}: EDI {edi}, ESI {esi} behind {count} counts"
        return ""


def _once(guest: Guest, generator: random.Random) -> None:
    """Ask something of a VM."""
    vm, seconds = guest.vm, generator.random() * 0.004
    what = generator.randrange(9)
    if what == 0:
        vm.start(until=None if generator.random() < 0.5 else hv.after(seconds))
    elif what == 1:
        vm.run(timeout=seconds + 0.001, virtual_timeout=seconds + 1e-6)
    elif what == 2:
        vm.stop()
    elif what == 3:
        vm.wait(seconds)
    elif what == 4:
        with vm.paused():
            time.sleep(seconds / 4)
    elif what == 5:
        vm.request_stop()
    elif what == 6:
        vm.look()
        vm.host.pcpus[-1].kick()
    elif what == 7:
        vm.vcpu.translate(0x10000)
    else:
        vm.step(generator.randrange(40))


def storm(seconds: float, seed: int, workers: int = 4, pcpus: int = 2) -> str:
    """So many seconds of it; what went wrong."""
    problems: list[str] = []
    doing: dict[int, tuple[float, str]] = {}
    slice_s, scheduler.SLICE_S = scheduler.SLICE_S, 0.0005
    end_at = time.monotonic() + seconds
    with hv.Host("32M", pcpus) as host, ExitStack() as stack:
        guests = []
        for number, clock in enumerate(("virtual", "wall", "virtual", "wall", "virtual")):
            codes = [COUNTS, SLEEPS] if number % 2 else [COUNTS]
            guest = Guest(stack.enter_context(long_mode(codes, host, clock=clock)))
            guest.vm.name = f"vm{number}"
            guest.listen()
            guests.append(guest)

        def work(number: int) -> None:
            generator = random.Random(seed * 100 + number)
            while time.monotonic() < end_at and not problems:
                guest = generator.choice(guests)
                doing[number] = time.monotonic(), guest.vm.name
                try:
                    _once(guest, generator)
                except ConfigError as error:
                    if not any(text in str(error) for text in ("is running already", "has not been run")):
                        problems.append(repr(error))
                except (TrapError, Exception) as error:
                    problems.append(repr(error))
            doing.pop(number, None)

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(workers)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.05)
            if any(time.monotonic() > since + HANG_S for since, _ in list(doing.values())):
                faulthandler.dump_traceback()
                scheduler.SLICE_S = slice_s
                stack.pop_all()
                return f"hangs: {doing}"
        for guest in guests:
            guest.vm.stop()
            if problem := guest.problem():
                problems.append(problem)
            if len(guest.arrived) < 100:
                problems.append(f"{guest.vm.name}: {len(guest.arrived)} counts only")
    scheduler.SLICE_S = slice_s
    return "; ".join(problems)


def main(arguments: Any = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    problem = storm(chosen.seconds, chosen.seed)
    print(problem or "nothing lost, nothing twice, nothing hangs")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
