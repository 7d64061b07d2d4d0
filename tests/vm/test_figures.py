"""What a host and its VMs say of themselves in figures, beside what is known of them."""

from __future__ import annotations

import time

import hypervisor as hv
from hypervisor.units import MIB, PAGE_SIZE
from tests.core.bare import bare
from tests.sectors import boot_sector

TOUCH = f"mov edi, 0x40000; mov ecx, 16; again: mov byte ptr [rdi], 1; add edi, {PAGE_SIZE}; loop again; cli; hlt"
LOOP = "again: inc rbx; jmp again"
EXITS = "again: out 0x80, al; jmp again"


def test_memory_is_counted_by_who_shows_it() -> None:
    with hv.Host("8M") as host, bare(TOUCH, host=host) as vm:
        before = vm.figures().memory
        assert before.own + before.shared + before.zero == MIB and before.own == vm.host_memory_bytes
        vm.run()
        after = vm.figures().memory
        assert after.own - before.own >= 16 * PAGE_SIZE and after.shared == 0
        assert after.own == vm.host_memory_bytes and after.own + after.zero == MIB
        with hv.Host("16M") as other, other.create_vm("hello", memory="4M") as parent, parent.fork("child") as child:
            figures = other.figures()
            for name in (parent.name, "child"):
                memory = figures.vm(name).memory
                assert memory.shared > 0 and memory.own == 0 and memory.shared + memory.zero == 4 * MIB
            child.memory.write(parent.vcpu.rip, b"changed")
            now = child.figures().memory
            assert now.own == PAGE_SIZE and now.own + now.shared + now.zero == 4 * MIB
            assert parent.figures().memory.own == PAGE_SIZE  # which nobody else shows any longer


def test_exits_are_counted_while_the_guest_runs() -> None:
    with hv.Host("4M") as host, bare(EXITS, host=host) as vm:
        calls = 0

        @vm.traps.port_out(0x80)
        def count(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            nonlocal calls
            calls += 1
            return hv.HANDLED

        vm.start()
        readings = [vm.figures()]
        while readings[-1].exits.get("port_out", 0) < 3000:
            low = calls
            readings.append(vm.figures())
            assert low - 1 <= readings[-1].exits.get("port_out", 0) <= calls + 1
        vm.stop()
        assert vm.figures().exits["port_out"] in (calls, calls + 1)
        counts = [one.exits.get("port_out", 0) for one in readings]
        assert counts == sorted(counts)
        rates = readings[-1].since(readings[0])
        assert 0 < rates.exits["port_out"] <= 3200 / rates.seconds * 2 and rates.virtual > 0


def test_states_are_told() -> None:
    with hv.Host("4M") as host, bare(LOOP, host=host) as vm:
        assert vm.figures().state == "new"
        vm.start()
        assert vm.figures().state == "running"
        with vm.paused():
            assert host.figures().vm("bare").state == "paused"
        vm.stop()
        assert vm.figures().state == "stopped"
        vm.run(virtual_timeout=0.001)
        assert vm.figures().state == "virtual-timeout"


def test_the_processors_time_is_that_of_the_accounts() -> None:
    with hv.Host("4M") as host, bare(LOOP, host=host) as vm:
        first = vm.figures()
        vm.run(timeout=0.3)
        second = vm.figures()
        rates = second.since(first)
        assert second.cpu == vm.usage
        assert abs(rates.run * rates.seconds - vm.usage.run_s) < 1e-6
        assert 0 < rates.run <= 1.05


def test_what_drives_and_consoles_do_is_counted() -> None:
    source = """
    mov bx, 0x9000; mov ax, 0x0203; mov cx, 2; mov dx, 0x80; int 0x13
    mov ax, 0x0301; mov cx, 2; mov dx, 0x80; int 0x13
    mov ax, 0x0e41; int 0x10; int 0x10
    cli; hlt
    """
    image = boot_sector(source).ljust(MIB, b"\0")
    with hv.boot(disks=[image], memory="4M") as vm:
        before = vm.figures().io
        assert vm.run(timeout=60).reason is hv.Reason.HALTED
        io = vm.figures().since(vm.figures()).io
        assert (io.reads, io.writes, io.console_bytes) == (0, 0, 0)
        now = vm.figures().io
        assert (now.read_bytes - before.read_bytes, now.written_bytes) == (3 * 512, 512)
        assert now.writes == 1 and now.console_bytes == 2


def test_a_hosts_figures_are_those_of_its_parts() -> None:
    with hv.Host("64M", 2) as host:
        vms = [host.create_vm("hello", memory="8M", name=f"vm{n}") for n in range(3)]
        figures = host.figures()
        assert (figures.memory, figures.promised, len(figures.pcpus)) == (64 * MIB, 24 * MIB, 2)
        assert figures.used == host.memory.used
        assert [one.name for one in figures.vms] == ["vm0", "vm1", "vm2"]
        vms[1].close()
        assert [one.name for one in host.figures().vms] == ["vm0", "vm2"]
        began = time.monotonic()
        assert vms[0].figures().time_s >= began
