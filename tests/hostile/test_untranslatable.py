"""Instructions that Unicorn's translator gives up at are undefined to the guest, exactly, and on any thread."""

from __future__ import annotations

from threading import Thread

import pytest

import hypervisor as hv
from tests.hostile.asm import asm
from tests.hostile.machines import HANDLER, machine
from tests.hostile.scenes import MEMORY, STACK
from tests.hostile.worker import prepare

_LOCK_BTS = b"\xf0\x0f\xab\xc1"
# no memory operand in the block of the instruction itself: Unicorn would take that one's address
_BEFORE = "inc dword ptr [0x30000]; jmp next; next: inc eax; inc ecx; "


def _guest(host: hv.Host, mode: str = "protected") -> hv.VM:
    """Counts in memory and in a register, meets the instruction, and stops with the frame's EIP in EBX."""
    vm = host.create_vm(memory=MEMORY)
    scene = machine(mode, asm(_BEFORE, mode) + _LOCK_BTS + b"\xf4", writes=((HANDLER, asm("pop ebx; hlt", mode)),))
    prepare(vm, scene)
    return vm


@pytest.fixture
def host():  # type: ignore[no-untyped-def]
    with hv.Host("8M", 2) as host:
        yield host


def _check(vm: hv.VM, result: hv.RunResult) -> None:
    assert result.reason is hv.Reason.HALTED
    assert result.eax == 1 and vm.memory.read(0x30000, 4) == b"\1\0\0\0"
    code = asm(_BEFORE, "protected")
    assert result.ebx == 0x10000 + len(code)
    assert result.esp == STACK - 8
    assert vm.stats["exception"] == 1


def test_what_came_before_happened_once(host: hv.Host) -> None:
    with _guest(host) as vm:
        _check(vm, vm.run(timeout=10))


def test_steps_over_it(host: hv.Host) -> None:
    with _guest(host) as vm:
        vm.vcpu.step(4)
        assert vm.vcpu.eax == 1
        vm.vcpu.step(1)
        assert vm.vcpu.rip == HANDLER
        _check(vm, vm.run(timeout=10))


def test_two_threads_at_once(host: hv.Host) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                with _guest(host) as vm:
                    _check(vm, vm.run(timeout=10))
        except BaseException as failure:  # told by the test
            failures.append(failure)

    threads = [Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_trap_on_the_exception_sees_it(host: hv.Host) -> None:
    with _guest(host) as vm:
        seen: list[int] = []

        @vm.traps.exception(6)
        def undefined(vcpu, exit):  # type: ignore[no-untyped-def]
            seen.append(vcpu.rip)
            return hv.stop("enough")

        assert vm.run(timeout=10).reason is hv.Reason.STOPPED
        assert seen == [0x10000 + len(asm(_BEFORE, "protected"))]
