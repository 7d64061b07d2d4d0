"""A guest that gives memory back, by itself and with a host that has promised more than it has."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.units import MIB, PAGE_SIZE
from hypervisor.vm.balloon import GIVE, MOST, WANTED, Balloon
from tests.memory.maps import census


def balloon(vm: hv.VM) -> Balloon:
    """A machine's balloon."""
    return next(plugin for _, plugin in vm.plugins if isinstance(plugin, Balloon))


def test_the_shipped_guest_gives_what_is_wanted() -> None:
    with hv.Host("32M", 1) as host:
        ends = []
        for wanted in (0, 100, 1000):
            with host.create_vm("balloon", memory="8M", plugins=[hv.Balloon]) as vm:
                balloon(vm).want(wanted)
                result = vm.run(timeout=60)
                assert result.reason is hv.Reason.POWERED_OFF and "balloon: good" in vm.console.text
                given = min(wanted, 496)
                assert balloon(vm).given == given and f"{given} pages are wanted, {given} were given" in vm.console.text
                assert vm.figures().memory.ballooned == given * PAGE_SIZE
                ends.append(vm.host_memory_bytes)
                census(host.memory, [vm.memory.pages])
        assert ends[0] - ends[1] == 99 * PAGE_SIZE and ends[0] - ends[2] == 495 * PAGE_SIZE, (
            "all but the one taken back"
        )


def test_without_a_balloon_the_hypercalls_are_no_instructions() -> None:
    with hv.boot("balloon", memory="8M") as vm:
        assert vm.run(timeout=60).reason is hv.Reason.POWERED_OFF
        assert "nobody wants memory here" in vm.console.text


@pytest.mark.parametrize(
    ("gpa", "count", "taken"),
    [
        (0x80000, 1, 1),
        (0x80000, MOST + 1, 0),
        (0x80001, 1, 0),
        (0xFF000, 2, 0),
        (0x7FFF_FFFF_F000, 1, 0),
        (0x80000, 0, 0),
        (0x80000, (1 << 64) - 1, 0),
        ((1 << 64) - PAGE_SIZE, 2, 0),
    ],
)
def test_only_ram_is_taken(gpa: int, count: int, taken: int) -> None:
    def setup(vm: hv.VM) -> None:
        Balloon(7).attach(vm)
        vm.memory.write(0x80000, b"content")

    code = f"vmmcall; mov rbp, rax; mov eax, {WANTED}; vmmcall; hlt"
    result = hv.run_asm(code, regs={"rax": GIVE, "rbx": gpa, "rcx": count}, setup=setup)
    assert (result.rbp, result.rax) == (taken, 7)


def test_what_is_given_is_anothers() -> None:
    with hv.Host("6M", 1, overcommit=3) as host:
        given = host.create_vm("balloon", memory="8M", plugins=[(hv.Balloon, {"wanted": 496})])
        assert given.run(timeout=60).reason is hv.Reason.POWERED_OFF
        with host.create_vm(memory="8M") as other:
            other.memory.write(MIB, b"x" * (4 * MIB))
            census(host.memory, [given.memory.pages, other.memory.pages])
        given.close()


def test_it_is_part_of_the_machines_state() -> None:
    with hv.boot("balloon", memory="8M", plugins=[hv.Balloon]) as vm:
        balloon(vm).want(50)
        vm.run(virtual_timeout=1e-5)
        with vm.snapshot() as moment, moment.fork() as fork:
            for one in (vm, fork):
                one.run(timeout=60)
            assert balloon(fork).given == balloon(vm).given == 50
            assert fork.state() == vm.state()
    for wrong in (-1, 1 << 25, "many"):
        with pytest.raises(hv.ConfigError, match="a balloon wants"):
            Balloon(wrong)  # type: ignore[arg-type]
