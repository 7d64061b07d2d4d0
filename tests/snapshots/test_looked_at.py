"""Others look at a machine while it becomes another one: nothing of what it was comes back."""

import random
import threading
from collections.abc import Callable

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.engine.state import State
from tests.meanwhile import again_and_again

AT = 0x8000
CODE = assemble("again:\n inc eax\n lea ebx, [eax + 1]\n jmp again\n", origin=AT, mode=32).code

LOOKS: dict[str, Callable[[hv.VM], object]] = {
    "reads its memory": lambda vm: vm.vcpu.read(AT, 16),
    "stores to its memory": lambda vm: vm.memory.write(0x20000, b"something"),
    "merges its frames": lambda vm: vm.host.sharing.scan(),
}


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("what", LOOKS)
def test_a_machine_that_goes_back_while_another_thread(what: str, clock: str) -> None:
    """A look puts it on a pCPU for a moment. One that came between two steps of going back took the registers of before
    there, which were saved over the right ones when the next machine came.
    """
    rng, looks = random.Random(what), list[object]()
    with hv.Host("32M", 1) as host:
        vm, other = (host.create_vm(CODE, memory="1M", format="flat", mode=32, at=AT, clock=clock) for _ in range(2))
        vm.run(virtual_timeout=1e-6, timeout=60)
        with again_and_again(lambda: looks.append(LOOKS[what](vm)), 0.0001, rng):
            for n in range(150):
                with vm.snapshot() as moment:
                    registers = vm.vcpu.dump()
                    vm.run(virtual_timeout=rng.randrange(1, 50) / 1e6, timeout=60)
                    vm.vcpu.ecx = n + 1  # another machine in any case: by the wall clock the guest may not have run
                    assert vm.vcpu.dump() != registers
                    vm.revert(moment)
                    other.run(virtual_timeout=1e-6, timeout=60)
                    assert vm.vcpu.dump() == registers, f"round {n}"
                vm.run(virtual_timeout=1e-6, timeout=60)
        assert len(looks) > 10


def test_a_look_waits_until_the_machine_has_gone_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes while the registers are put into the vCPU's memory would take those that are there so far."""
    with hv.Host("32M", 1) as host:
        vm, other = (host.create_vm(CODE, memory="1M", format="flat", mode=32, at=AT) for _ in range(2))
        vm.run(virtual_timeout=1e-6, timeout=60)
        vm.vcpu.xmm3 = 5
        with vm.snapshot() as moment:
            vm.run(virtual_timeout=1e-6, timeout=60)
            vm.vcpu.xmm3 = 9
            looks: list[threading.Thread] = []
            put = State.set

            def put_while_somebody_looks(state: State, name: str, value: int) -> None:
                if not looks:
                    looks.append(threading.Thread(target=vm.vcpu.read, args=(AT, 1)))
                    looks[0].start()
                    looks[0].join(0.2)
                put(state, name, value)

            monkeypatch.setattr(State, "set", put_while_somebody_looks)
            vm.revert(moment)
            monkeypatch.undo()
            looks[0].join()
            other.run(virtual_timeout=1e-6, timeout=60)
            assert vm.vcpu.xmm3 == 5
