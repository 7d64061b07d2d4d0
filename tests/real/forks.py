"""Debian's Linux forks busybox again and again, under the wall clock, while the host is busy and kicks.

``python -m tests.real.forks --runs 200 --load 2`` and ``--runs 50 --kick 0.0003``: every run must end with power-off
and say the same. What a lost SYSCALL does to a program shows sooner or later as a child that dies, or a wrong sum.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, nullcontext
from functools import partial

import hypervisor as hv
from tests import debian
from tests.initramfs import READY, initramfs
from tests.meanwhile import again_and_again, kick

FORKS = 1500
MEMORY = "128M"
PATIENCE_S = 900.0
COMMAND_LINE = "console=ttyS0 quiet"
LOAD = "while True: pass"


def init(forks: int) -> str:
    """Each round starts a program and reads what it says."""
    return (
        READY
        + f"""
i=0; sum=0
while [ $i -lt {forks} ]; do
  i=$((i+1))
  said=$(/bin/busybox echo $i) || echo "round $i ended with $?"
  sum=$((sum+said))
done
echo "forks $i sum $sum"
exec poweroff -f
"""
    )


def expected(forks: int) -> str:
    """All that the console shows, before the kernel's last word with its time."""
    return f"READY\nforks {forks} sum {forks * (forks + 1) // 2}\n"


def run(host: hv.Host, forks: int, kick_s: float = 0.0, clock: str = "wall") -> str:
    """What is wrong with a run, nothing if it is right."""
    kernel = debian.debian_path(debian.kernel_package(), "boot/vmlinuz-*")
    archive = initramfs(init(forks), debian.debian_path("busybox-static", "bin/busybox").read_bytes())
    with closing(host.create_vm(kernel, initrd=archive, memory=MEMORY, append=COMMAND_LINE, clock=clock)) as vm:
        with again_and_again(partial(kick, vm), kick_s) if kick_s else nullcontext():
            result = vm.run(timeout=PATIENCE_S)
        text = vm.console.text.replace("\r\n", "\n")
    if result.reason is not hv.Reason.POWERED_OFF:
        return f"ended as {result.reason.value}: {result.message}\n{text[-2000:]}"
    said, last = text.rstrip("\n").rsplit("\n", 1)
    return "" if said + "\n" == expected(forks) and last.endswith("reboot: Power down") else f"said {text!r}"


def main() -> int:
    """The exit status: 1 if a run was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.real.forks", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--forks", type=int, default=FORKS)
    parser.add_argument(
        "--kick", type=float, default=0.0, help="host seconds between kicks from another thread; 0: none"
    )
    parser.add_argument("--load", type=int, default=0, help="processes that compute all the while")
    parser.add_argument("--at-once", type=int, default=1, help="runs at the same time, on one host")
    parser.add_argument("--clock", choices=("virtual", "wall"), default="wall")
    options = parser.parse_args()
    with ExitStack() as stack:
        for _ in range(options.load):
            busy = subprocess.Popen([sys.executable, "-c", LOAD])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        host = stack.enter_context(hv.Host(f"{128 * options.at_once}M", options.at_once))

        def one(number: int) -> bool:
            started = time.monotonic()
            problem = run(host, options.forks, options.kick, options.clock)
            print(f"run {number}: {problem or 'right'} ({time.monotonic() - started:.1f} s)", flush=True)
            return bool(problem)

        pool = stack.enter_context(ThreadPoolExecutor(options.at_once))
        wrong = sum(pool.map(one, range(1, options.runs + 1)))
    print(f"{options.runs} runs, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
