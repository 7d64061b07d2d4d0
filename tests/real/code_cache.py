"""How much translated code real guests have, and that they cannot tell how much room there is for it.

``python -m tests.real.code_cache [SIZE...]`` boots Debian's 6.1 cloud kernel on 1, 2 and 4 vCPUs until it powers itself
off, and runs memtest86+ to its last test, each with 64M of room and with each ``SIZE`` (4M). A line says how much code
there was at most, how often it was thrown away, the host's seconds, and a digest of the guest: its console, exits, time
and memory. Digests of one guest must be equal; the exit status is 1 if they are not.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
import time
from typing import Any

import hypervisor as hv
from hypervisor.engine import block as b
from hypervisor.engine import layout
from hypervisor.engine.pcpu import PCpu
from tests.debian import debian_path, kernel_package
from tests.initramfs import READY, initramfs

_WORK = READY + (
    "work() { i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; /bin/true; echo worker $1 done; }\n"
    "for n in 1 2 3 4; do work $n & done\nwait\nexec poweroff -f\n"
)


def _watch(pcpu: PCpu) -> list[int]:
    """The most code that there is whenever the guest is left, in bytes, as a list of one."""
    tcg = ctypes.c_uint64.from_address(pcpu.words[b.UC >> 3] + layout.UC_TCG_CONTEXT).value
    start, end = (ctypes.c_uint64.from_address(tcg + at) for at in (layout.TCG_BUFFER, layout.TCG_CODE_NEXT))
    most, run = [0], pcpu.run

    def watched() -> int:
        kind = run()
        most[0] = max(most[0], end.value - start.value)
        return kind

    pcpu.run = watched  # type: ignore[method-assign]
    return most


def _run(what: str, room: str) -> str:
    """Run a guest, print its line and return its digest."""
    with hv.Host("128M", 1, code_cache=room) as host:
        most = _watch(host.pcpus[0])
        options: dict[str, Any] = {}
        if what == "memtest86+":
            image, memory = debian_path("memtest86+", "boot/*x64.bin"), "8M"
            append = "nobench nosm nopause console=ttyS0,115200"
        else:
            image, memory = debian_path(kernel_package(), "boot/vmlinuz-*"), "128M"
            append = "console=ttyS0"
            busybox = debian_path("busybox-static", "bin/busybox").read_bytes()
            options = {"initrd": initramfs(_WORK, busybox), "cpus": int(what.split()[1])}
        began = time.monotonic()
        with host.create_vm(image, memory=memory, append=append, **options) as vm:
            result = vm.run(until="#10 [Bit fade test" if what == "memtest86+" else None, timeout=900)
            assert result.reason in (hv.Reason.POWERED_OFF, hv.Reason.UNTIL), result
            seen = vm.console.text, sorted(result.exits.items()), vm.clock.now_ns, vm.memory.read(0, vm.memory.size)
            digest = hashlib.sha256(repr(seen).encode()).hexdigest()[:16]
            emptied = vm.host_events["code_cache_emptied"]
    seconds = time.monotonic() - began
    code = f"{most[0] / 1e6:5.1f} MB of code, emptied {emptied:4} times"
    print(f"{what:10} {room:>4}: {code}, {seconds:5.1f} s, {digest}", flush=True)
    return digest


def main() -> int:
    """As the module says."""
    good = True
    for what in ("Linux 1", "Linux 2", "Linux 4", "memtest86+"):
        good &= len({_run(what, room) for room in ("64M", *(sys.argv[1:] or ["4M"]))}) == 1
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
