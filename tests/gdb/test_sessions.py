"""What people do with gdb, done by the real one."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path

import hypervisor as hv
from hypervisor._face import CODE, STACK
from hypervisor.assembler import assemble
from hypervisor.machine.bare import prepare
from tests.core.bare import addresses, bare
from tests.gdb.conftest import Debug

COUNT = "mov ecx, 1000; again: inc rax; mov [0x80000], rax; mov rbx, [0x80008]; dec ecx; jnz again; hlt"


def test_breakpoints_and_steps(debug: Debug) -> None:
    _, loop, store, *_ = addresses(COUNT)
    with bare(COUNT) as vm:
        said = debug(
            vm,
            f"""CONNECT
            break *{loop}
            hbreak *{store}
            continue
            continue
            continue
            p/x $rax
            stepi
            p/x $pc
            delete
            stepi 4
            p $rax
            continue""",
        )
    assert f"Breakpoint 1, 0x{loop:016x}" in said
    assert f"Breakpoint 2, 0x{store:016x}" in said
    assert "$1 = 0x1" in said
    assert f"$2 = {store:#x}" in said
    assert "$3 = 2" in said
    assert said.result.rax == 1000


def test_watchpoints_stop_after_the_access(debug: Debug) -> None:
    _, _, _, load, after, *_ = addresses(COUNT)
    with bare(COUNT) as vm:
        said = debug(
            vm,
            """CONNECT
            watch *(long*)0x80000
            rwatch *(int*)0x8000c
            awatch *(char*)0x80001
            continue
            p/x $pc
            continue
            p/x $pc
            delete
            continue""",
        )
    assert "Old value = 0\nNew value = 1\n" in said
    assert f"$1 = {load:#x}" in said
    assert "Hardware read watchpoint 2: *(int*)0x8000c\n\nValue = 0\n" in said
    assert f"$2 = {after:#x}" in said
    assert said.result.rax == 1000


def test_registers_and_memory_are_written(debug: Debug) -> None:
    with bare("nop; nop; movups [0x80010], xmm3; add rax, [0x80000]; hlt", rax=1) as vm:
        said = debug(
            vm,
            """CONNECT
            set *(long*)0x80000 = 0x100
            set $rax = $rax + 4
            set $xmm3.uint128 = 0x11223344556677889900aabbccddeeff
            set $fs_base = 0x1234
            set $eflags = $eflags | 1
            set $tr = 8
            p/x $fs_base
            stepi 3
            p/x *(unsigned char*)0x80010@4
            p $eflags
            continue""",
        )
    assert said.result.rax == 0x105
    assert "$1 = 0x1234" in said
    assert "$2 = {0xff, 0xee, 0xdd, 0xcc}" in said
    assert "$3 = [ CF ]" in said or "$3 = [ CF PF" in said
    assert 'Could not write register "tr"' in said


def test_memory_that_is_not_there_is_an_error(debug: Debug) -> None:
    with bare("hlt") as vm:
        said = debug(
            vm,
            """CONNECT
            x/x 0x8000000000
            monitor walk 0x8000000000
            monitor memory physical
            x/x 0x80000
            set {int}0x80000 = 5
            set {int}0xffe = 7
            set {int}0x40000000 = 5
            monitor memory virtual
            set {int}0xd0000000 = 5
            continue""",
        )
        assert vm.memory.read(0x80000, 1) == b"\x05"
    assert "Cannot access memory at address 0x8000000000" in said
    assert "read by ring 0 from 0x8000000000: PML4[1] not present" in said
    assert "0x80000:\t0x00000000" in said
    assert said.text.count("Cannot access memory at address 0x40000000") == 1, said  # no memory, and so not written
    assert said.text.count("Cannot access memory at address 0xd0000000") == 1, said


def test_ctrl_c_stops_a_running_guest(debug: Debug) -> None:
    with bare("out 0x80, al; again: inc rax; jmp again") as vm:
        gdbs: list[subprocess.Popen[str]] = []

        @vm.traps.port_out(0x80, mode="observe")
        def running(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            threading.Timer(0.2, gdbs[0].send_signal, [signal.SIGINT]).start()

        said = debug(
            vm,
            """CONNECT
            continue
            p $rax > 0
            p $pc == 0x10002 || $pc == 0x10005
            kill
            p 1""",
            started=gdbs.append,
        )
    assert "Program received signal SIGINT, Interrupt." in said
    assert "$1 = 1" in said
    assert "$2 = 1" in said
    assert (said.result.reason, said.result.message) == (hv.Reason.STOPPED, "killed by gdb")


def test_ctrl_c_and_breakpoints_by_the_wall_clock(debug: Debug) -> None:
    code = assemble("out 0x80, al; again: inc rax; jmp again", origin=CODE, mode=64).code
    gdbs: list[subprocess.Popen[str]] = []
    with hv.Host("2M", 1) as host, hv.VM(host, hv.MachineConfig(memory="1M", clock="wall")) as vm:
        prepare(vm, code, 64, CODE, STACK)

        @vm.traps.port_out(0x80, mode="observe")
        def running(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            threading.Timer(0.2, gdbs[0].send_signal, [signal.SIGINT]).start()

        said = debug(
            vm,
            f"""CONNECT
            continue
            p $rax > 1
            break *{CODE + 2}
            continue
            continue
            stepi
            p/x $pc
            kill""",
            started=gdbs.append,
        )
    assert "Program received signal SIGINT" in said
    assert "$1 = 1" in said
    assert said.text.count("Breakpoint 1, ") == 2
    assert f"$2 = {CODE + 5:#x}" in said


def test_a_handler_that_stops_the_run_shows_where(debug: Debug) -> None:
    with bare("mov rbx, 9; out 0x80, al; hlt") as vm:

        @vm.traps.port_out(0x80)
        def refuse(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            return hv.stop("not that port")

        said = debug(vm, "CONNECT\ncontinue\np $rbx\nx/i $pc\ncontinue")
    assert "hypervisor: not that port" in said
    assert "$1 = 9" in said
    assert "out    %al,$0x80" in said
    assert (said.result.reason, said.result.message) == (hv.Reason.STOPPED, "not that port")


def test_a_guest_runs_on_when_gdb_detaches(debug: Debug) -> None:
    _, loop, *_ = addresses(COUNT)
    with bare(COUNT) as vm:
        said = debug(vm, f"CONNECT\nbreak *{loop}\nwatch *(long*)0x80000\ncontinue\ndetach")
        assert said.result.rax == 1000
        assert not [name for name in vm.traps.names() if name.startswith("gdb.")]


def test_a_run_under_gdb_repeats_the_run_without(debug: Debug) -> None:
    with hv.boot("preempt", memory="16M") as vm:
        alone = vm.run()
        console = vm.console.text
    with hv.boot("preempt", memory="16M") as vm:
        entry = vm.vcpu.rip
        said = debug(vm, f"CONNECT\nbreak *{entry}\nstepi\nstepi\ncontinue")
        assert vm.console.text == console
    assert said.result.virtual_s == alone.virtual_s
    assert {k: v for k, v in said.result.exits.items() if k != "execute"} == dict(alone.exits)


def test_a_crash_can_be_looked_at(debug: Debug) -> None:
    with bare("xor eax, eax; mov rbx, 7; ud2; hlt") as vm:
        said = debug(vm, "CONNECT\ncontinue\np $rbx\nx/i $pc\ncontinue")
    assert said.result.reason is hv.Reason.CRASHED
    assert "hypervisor: triple fault" in said
    assert "Program received signal SIGSEGV" in said
    assert "$1 = 7" in said
    assert "ud2" in said
    assert "Program terminated with signal SIGSEGV" in said


def test_a_guest_that_powers_off_exits(debug: Debug) -> None:
    with hv.boot("hello", memory="16M") as vm:
        said = debug(vm, "CONNECT\ncontinue\ninfo registers rip")
    assert "exited normally" in said
    assert said.result.reason is hv.Reason.POWERED_OFF


def test_stepping_a_sleeping_cpu_waits_for_its_interrupt(debug: Debug) -> None:
    with hv.boot("long", memory="16M") as vm:
        halt = vm.symbols["main.sleep"]
        said = debug(
            vm,
            f"""CONNECT
            break *{halt}
            continue
            delete
            stepi
            info threads
            p $pc - {halt}
            stepi
            info threads
            monitor info
            p/x *(long*)$rsp - {halt}
            continue""",
        )
        assert "timer: 10 ticks" in vm.console.text
    assert "(vCPU 0, halted)" in said
    assert "$1 = 1" in said
    assert "(vCPU 0, running)" in said
    assert "$2 = 0x1" in said


def test_vcpus_are_threads(debug: Debug) -> None:
    with hv.boot("hello", memory="16M", cpus=3) as vm:
        said = debug(vm, "CONNECT\ninfo threads\nthread 3\np/x $ip\nthread 1\nstepi\ncontinue")
    assert "Thread 1 (vCPU 0, running)" in said
    assert "Thread 3 (vCPU 2, waiting-for-startup)" in said
    assert "$1 = 0xfff0" in said
    assert "exited normally" in said


def test_each_vcpu_stops_for_itself(debug: Debug) -> None:
    with hv.boot("smp", memory="16M", cpus=3) as vm:
        at = vm.symbols
        said = debug(
            vm,
            f"""CONNECT
            break *{at["TRAMPOLINE"]}
            continue
            info threads
            p/x $cs
            continue
            delete
            break *{at["on_ping"]}
            continue
            thread
            p $efer
            stepi
            p/x $pc - {at["on_ping"]} < 16
            thread 1
            continue
            thread
            delete
            watch *(int*){at["pongs"]}
            continue
            thread
            delete
            continue""",
        )
        assert "smp: good" in vm.console.text
    assert "Thread 2 hit Breakpoint 1" in said
    assert "(vCPU 2, waiting-for-startup)" in said
    assert "$1 = 0x800" in said
    assert "Thread 3 hit Breakpoint 1" in said
    assert "Thread 2 hit Breakpoint 2" in said
    assert "LME LMA" in said
    assert "$3 = 0x1" in said
    assert "Thread 3 hit Breakpoint 2" in said
    assert "exited normally" in said


def test_monitor(debug: Debug) -> None:
    with hv.boot("hello", memory="16M") as vm:
        said = debug(
            vm,
            """CONNECT
            monitor
            monitor info
            monitor registers
            monitor dance
            stepi 20
            monitor reset
            maintenance flush register-cache
            p/x $pc
            continue""",
        )
    assert "monitor walk" in said
    assert "hello: 16 MiB, 0.000000 s since power-on" in said
    assert "cs   0000 base 00000000 limit 0000ffff" in said
    assert "monitor dance: there is no such command; there are info, registers," in said
    assert "$1 = 0x7c00" in said
    assert "exited normally" in said


def test_c_with_symbols(debug: Debug, kernel: Path) -> None:
    with hv.boot(kernel, memory="16M") as vm:
        said = debug(
            vm,
            f"""file {kernel}
            CONNECT
            break square
            continue
            backtrace
            p number
            finish
            next
            p account
            delete
            watch account.sum
            continue
            p account.sum
            delete
            break square if number == 4
            continue
            info locals
            up
            info locals
            delete
            continue""",
        )
    assert "Breakpoint 1, square (number=1)" in said
    assert "#1  0x" in said
    assert "in main () at" in said
    assert "$1 = 1\n" in said
    assert "Value returned is $2 = 1" in said
    assert 'owner = "nobody\\000"' in said
    assert "Old value = 1\nNew value = 5\n" in said
    assert "square (number=4)" in said
    assert "exited normally" in said
    assert said.result.reason is hv.Reason.POWERED_OFF
