"""A machine's state is taken while its run is paused: its twin goes on as it does, wherever that was."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from typing import Any

import pytest

import hypervisor as hv
from tests.core.bare import bare

LIMIT_NS = 300_000_000


def goes_on(vm: hv.VM) -> tuple[Any, ...]:
    """All that can be seen of a machine that runs to its end, or to a time."""
    result = vm.run(virtual_timeout=(LIMIT_NS - vm.clock.now_ns) / 1e9, timeout=120)
    return seen(vm, result.reason.value)


def seen(vm: hv.VM, reason: str) -> tuple[Any, ...]:
    memory = hashlib.sha256(vm.memory.read(0, vm.memory.size)).hexdigest()
    return reason, vm.clock.now_ns, dict(vm.stats), vm.console.bytes, memory, [vcpu.dump() for vcpu in vm.vcpus]


@pytest.mark.parametrize(("image", "cpus"), [("preempt", 1), ("pagefault", 1), ("smp", 2)])
def test_twins_of_a_run_in_the_background(image: str, cpus: int) -> None:
    generator = random.Random(image)
    states = []
    with hv.Host("64M", 1) as host:
        with host.create_vm(image, memory="16M", cpus=cpus) as alone:
            expected = goes_on(alone)
        while len(states) < 3:
            with host.create_vm(image, memory="16M", cpus=cpus) as vm:
                vm.start(virtual_timeout=LIMIT_NS / 1e9)
                while vm.wait(generator.random() * 0.002) is None:
                    with vm.paused() as stands:
                        if stands and len(states) < 4:
                            states.append(vm.state())
                assert vm.result is not None and seen(vm, vm.result.reason.value) == expected
        for state in states:
            with host.create_vm(image, memory="16M", cpus=cpus) as twin:
                twin.restore(state)
                assert goes_on(twin) == expected


def test_a_run_that_is_not_paused_has_no_state() -> None:
    with bare("again: inc rbx; jmp again") as vm:
        state = vm.state()
        vm.start()
        with pytest.raises(hv.ConfigError, match="is running already"):
            vm.state()
        with pytest.raises(hv.ConfigError, match="is running already"):
            vm.restore(state)
        with vm.paused():
            vm.restore(state)
            assert vm.state() == state
        vm.stop()


def test_nobody_else_resumes_a_run_whose_state_is_taken() -> None:
    """Each state is of one moment, though others let the run go on all the time."""
    code = "again: inc rbx; mov [0x80000], rbx; jmp again"
    with bare(code) as vm:
        vm.start()
        over = threading.Event()

        def resumes() -> None:
            while not over.is_set():
                vm.resume()

        thread = threading.Thread(target=resumes)
        thread.start()
        end_at = time.monotonic() + 1.0
        taken = 0
        while time.monotonic() < end_at or taken < 5:
            with vm.paused():
                before = vm.clock.now_ns, vm.vcpu.rbx
                vm.state()
                assert (vm.clock.now_ns, vm.vcpu.rbx) == before
                taken += 1
        over.set()
        thread.join()
        vm.stop()
