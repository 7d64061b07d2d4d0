"""``monitor snapshot`` and ``monitor revert``, typed to the real gdb."""

from __future__ import annotations

import pytest

import hypervisor as hv
from hypervisor.debug.gdb.remembered import MAX_MOMENTS, Remembered
from tests.core.bare import addresses, bare
from tests.gdb.conftest import Debug

COUNT = "mov ecx, 1000; again: inc rax; mov [0x80000], rax; mov rbx, [0x80008]; dec ecx; jnz again; hlt"
LEARN = "maintenance flush register-cache\nmaintenance flush dcache"


def test_a_session_goes_back_and_ends_as_it_would_have(debug: Debug) -> None:
    with bare(COUNT) as vm:
        alone = vm.run()
        place = vm.clock.now_ns
    _, loop, *_ = addresses(COUNT)
    with bare(COUNT) as vm:
        said = debug(
            vm,
            f"""CONNECT
            break *{loop}
            continue
            continue
            continue
            monitor snapshot third
            p $rax
            p *(long*)0x80000
            ignore 1 20
            continue
            p $rax
            p *(long*)0x80000
            monitor snapshot later
            monitor snapshot
            monitor revert third
            {LEARN}
            p $rax
            p *(long*)0x80000
            continue
            p $rax
            monitor revert later
            {LEARN}
            p $rax
            delete
            continue""",
        )
        assert vm.clock.now_ns == place
    values = [line.split(" = ")[1] for line in said.text.splitlines() if line.startswith("$")]
    assert values == ["2", "2", "23", "23", "2", "2", "3", "23"], said.text
    assert "there are third (0.000000 s), later (0.000001 s)" in said
    assert "third: 0.000000 s, pages of memory put back: 1" in said
    assert (said.result.rax, said.result.virtual_s) == (1000, alone.virtual_s)
    assert said.result.reason is alone.reason


def test_a_crash_is_gone_back_from(debug: Debug) -> None:
    code = "xor eax, eax; mov rbx, 7; ud2; mov rbx, 8; hlt"
    behind = addresses(code)[3]
    with bare(code) as vm:
        said = debug(
            vm,
            f"""CONNECT
            stepi
            monitor snapshot good
            continue
            p $rbx
            monitor revert good
            {LEARN}
            p $rbx
            stepi
            p $rbx
            continue
            monitor revert good
            {LEARN}
            set $pc = {behind}
            continue
            p $rbx
            continue""",
        )
    assert said.text.count("Program received signal SIGSEGV") == 2
    assert "$1 = 7" in said and "$2 = 0" in said and "$3 = 7" in said and "$4 = 8" in said, said.text
    assert said.result.reason is hv.Reason.HALTED and said.result.rbx == 8


def test_interrupts_come_where_they_came(debug: Debug) -> None:
    with hv.boot("preempt", memory="16M") as vm:
        alone, console = vm.run(), vm.console.text
        stats = {kind: count for kind, count in vm.stats.items() if kind != "execute"}
    with hv.boot("preempt", memory="16M") as vm:
        at = vm.symbols["interrupt"]
        said = debug(
            vm,
            f"""CONNECT
            break *{at}
            ignore 1 4
            continue
            stepi 3
            monitor snapshot here
            ignore 1 9
            continue
            stepi 2
            monitor revert here
            {LEARN}
            delete
            continue""",
        )
        assert "exited normally" in said
        assert vm.console.text == console and vm.stats.items() >= stats.items()
    assert said.result.virtual_s == alone.virtual_s


def test_what_is_no_snapshot_is_told(debug: Debug) -> None:
    with bare("nop; hlt") as vm:
        said = debug(
            vm,
            """CONNECT
            monitor revert
            monitor revert nowhere
            monitor snapshot one two
            monitor help
            kill""",
        )
    assert "monitor revert: say which snapshot; there are none: monitor snapshot NAME takes one." in said
    assert "there is no snapshot 'nowhere'; there are none" in said
    assert "monitor snapshot: give one name" in said
    assert "monitor revert    NAME: become what the machine was then" in said


def test_there_is_an_end_of_snapshots_and_a_name_may_be_used_again() -> None:
    with bare("nop; hlt") as vm:
        remembered = Remembered(vm)
        for number in range(MAX_MOMENTS):
            remembered.take(str(number))
        with pytest.raises(hv.ConfigError, match="at most"):
            remembered.take("another")
        old = len(vm.host.snapshots)
        remembered.take("3")
        assert len(vm.host.snapshots) == old == MAX_MOMENTS
        remembered.close()
        assert not vm.host.snapshots
