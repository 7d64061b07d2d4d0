"""What people get wrong, with the sentence that each gets; and nothing is left running afterwards."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.cli import main
from hypervisor.engine import layout
from hypervisor.engine.interposition import native
from hypervisor.errors import (
    ConfigError,
    DeviceError,
    EngineError,
    GuestCrashed,
    GuestFault,
    HypervisorError,
    ImageError,
    PluginError,
    TrapError,
)
from hypervisor.guests import shipped
from hypervisor.vm.config import parse_disk
from tests.sectors import boot_sector

HALT = boot_sector(b"\xfa\xf4")  # cli; hlt
LOOP = boot_sector(b"\xfb\x90\xeb\xfd")  # sti; nop; jmp to the nop


def elf(machine: int, size: int = 0x1000) -> bytes:
    """An ELF file for ``machine`` with one segment of ``size`` bytes, which are not there."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x100000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0x1000, 0x100000, 0x100000, size, size, 0x1000)


class Device:
    """The least that a device can be."""

    name = "mine"

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        return None

    def reset(self) -> None:
        return None

    def state(self) -> None:
        return None

    def restore(self, state: object) -> None:
        return None


class Dice:
    """A plugin."""

    def __init__(self, sides: int = 6) -> None:
        self.sides = sides

    def attach(self, vm: hv.VM) -> None:
        return None


class Raising:
    """A plugin that cannot be attached."""

    def attach(self, vm: hv.VM) -> None:
        raise ValueError("no dice")


class Exiting:
    """A plugin that wants to end its host."""

    def attach(self, vm: hv.VM) -> None:
        raise SystemExit(3)


@dataclass(frozen=True)
class Case:
    """``do(directory)`` fails with ``error``, whose text contains ``sentence``."""

    name: str
    do: Callable[[Path], object]
    error: type[Exception]
    sentence: str


def boots(name: str, image: Any, error: type[Exception], sentence: str, **options: Any) -> Case:
    """Booting ``image`` (bytes, or a path inside the test's directory) with ``options`` fails."""
    options.setdefault("memory", "4M")

    def do(directory: Path) -> object:
        return hv.boot(directory / image if isinstance(image, str) else image, **options)

    return Case(name, do, error, sentence)


def with_vm(name: str, do: Callable[[hv.VM], object], error: type[Exception], sentence: str) -> Case:
    """Something done to a VM fails."""

    def booted(_: Path) -> object:
        with hv.boot(HALT, memory="4M") as vm:
            return do(vm)

    return Case(name, booted, error, sentence)


def handler(name: str, answer: Callable[[hv.VM], Callable[..., Any]], sentence: str) -> Case:
    """A handler that breaks its contract ends the run, and `check` tells the sentence."""

    def do(vm: hv.VM) -> object:
        vm.traps.hlt(answer(vm), name="mine")
        result = vm.run(timeout=20)
        assert result.reason is hv.Reason.HOST_ERROR
        return result.check()

    return with_vm(name, do, GuestCrashed, sentence)


def run_closed(vm: hv.VM) -> object:
    vm.close()
    return vm.run()


def closed(do: Callable[[hv.VM], object]) -> Callable[[hv.VM], object]:
    """The same, once the VM is closed."""

    def close_and_do(vm: hv.VM) -> object:
        vm.close()
        return do(vm)

    return close_and_do


def put(owner: str, name: str, value: Any) -> Callable[[hv.VM], object]:
    """Set an attribute of the VM, its vCPU or its host."""

    def do(vm: hv.VM) -> object:
        setattr({"vm": vm, "vcpu": vm.vcpu, "host": vm.host}[owner], name, value)
        return None

    return do


def answers(name: str, code: str, kind: str, field: str, value: Any, sentence: str) -> Case:
    """A handler of ``kind`` puts ``value`` into a field of its exit."""

    def answer(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        setattr(exit, field, value)
        return hv.HANDLED

    def do(_: Path) -> object:
        return hv.run_asm(f"{code}; hlt", setup=lambda vm: getattr(vm.traps, kind)(answer)).check()

    return Case(name, do, GuestCrashed, sentence)


def elsewhere(vm: hv.VM) -> object:
    """A register is written by a thread that does not run the VM."""
    caught: list[Exception] = []

    def write() -> None:
        try:
            vm.vcpu.rax = 3
        except Exception as error:
            caught.append(error)

    def wait(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        vcpu.rax = 5  # the thread that runs it may
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        return hv.HANDLED

    vm.traps.hlt(wait)
    vm.run(timeout=20)
    assert vm.vcpu.rax == 5
    vm.vcpu.rax = 7  # between runs anybody may
    raise caught[0]


async def later(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
    return hv.PASS


async def soon(*arguments: Any) -> None:
    return None


def values(vcpu: hv.Vcpu, exit: hv.Exit) -> Any:
    yield hv.PASS


class LateDevice(Device):
    """One whose answer nobody waits for."""

    async def read(self, offset: int, size: int) -> int:  # type: ignore[override]
        return 0


class LateHandler:
    """A handler that is an object."""

    async def __call__(self, vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        return hv.PASS


def mmio_over(where: range, kind: str = "mmio_write") -> Callable[[hv.VM], object]:
    return lambda vm: getattr(vm.traps, kind)(where, lambda vcpu, exit: hv.PASS)


def read_closed(vm: hv.VM) -> object:
    vm.close()
    return vm.memory.read(0, 4)


def translate_closed(_: Path) -> object:
    with hv.Host("8M") as host:
        vm = host.create_vm(HALT, memory="4M")
        vm.close()
        return vm.vcpu.read(0, 4)


def two_vms(_: Path) -> object:
    with hv.Host("8M") as host:
        host.create_vm(HALT, memory="6M")
        return host.create_vm(HALT, memory="4M")


def closed_host(_: Path) -> object:
    host = hv.Host("8M")
    host.close()
    return host.create_vm(HALT, memory="4M")


def close_while_running(_: Path) -> object:
    with hv.boot(LOOP, memory="4M") as vm:
        running = threading.Event()
        vm.traps.int_n(lambda vcpu, exit: hv.PASS)
        thread = threading.Thread(target=lambda: vm.run(until=lambda: bool(running.set()), timeout=20))
        thread.start()
        assert running.wait(20)
        try:
            return vm.close()
        finally:
            vm.request_stop()
            thread.join(20)


def overlap(vm: hv.VM) -> object:
    vm.traps.port_in(range(0x300, 0x310), lambda vcpu, exit: hv.PASS, name="one")
    return vm.traps.port_in(range(0x308, 0x318), lambda vcpu, exit: hv.PASS, name="two")


def attach_late(vm: hv.VM) -> object:
    vm.run(timeout=20)
    return vm.attach(Device(), ports=range(0x300, 0x301))


def ones(count: int) -> bytes:
    return b"\xff" * count


KERNEL = shipped("hello32").image
CASES = (
    # images
    boots("no file", "nothing.img", ImageError, "nothing.img: there is no such file; check the path of the image."),
    Case("no guest", lambda _: hv.boot("hallo"), ImageError, "hallo: there is no such file, and no shipped guest"),
    boots("a directory", ".", ImageError, "is a directory; give a file."),
    boots("an endless device", Path("/dev/zero"), ImageError, "/dev/zero is a device without an end; give a file."),
    boots("an empty image", b"", ImageError, "it begins with nothing: the file is empty"),
    boots("garbage", b"garbage" * 200, ImageError, "no image of a known format (bzImage, multiboot 2 or 1, ELF"),
    boots("a snapshot of something", b"QEVM" + bytes(8192), ImageError, "it begins with 51 45 56 4d"),
    boots("ELF for ARM", elf(40), ImageError, "this 64-bit ELF file is for ARM; build it for x86"),
    boots("a truncated ELF header", elf(62)[:50], ImageError, "the file is truncated: the ELF header should be"),
    boots("a truncated segment", elf(62), ImageError, "the segment at 0x100000 should be at offset 0x1000"),
    boots("a truncated kernel", KERNEL[:40], ImageError, "the file is truncated: what the multiboot header's"),
    boots("too large for memory", KERNEL, ImageError, "which is not memory. Memory ends at", memory="1M"),
    boots("no room for the BIOS", HALT, ConfigError, "give the guest at least 1M of memory (--memory)", memory="960K"),
    boots("an oversized segment", elf(62, 1 << 40), ImageError, "the file is truncated"),
    boots("not a bzImage", ones(2048), ImageError, "this is not a bzImage", format="linux"),
    boots("an unknown format", HALT, ConfigError, "'cpio' is not an image format; use one of linux", format="cpio"),
    boots("flat without at", HALT, ConfigError, "a flat binary needs --at ADDRESS and --mode", format="flat", mode=32),
    boots("flat without mode", HALT, ConfigError, "and --mode 16, 32 or 64", format="flat", at=0x1000),
    boots("at without flat", HALT, ConfigError, "--at and --entry are for --format flat", at=0x1000),
    boots("mode without flat", HALT, ConfigError, "--mode is for flat binaries and Linux kernels", mode=32),
    boots("flat beyond memory", HALT, ImageError, "give the guest more", format="flat", at=1 << 30, mode=32),
    boots("image of a wrong type", 12, ConfigError, "image=12: give a path, or the contents as bytes."),
    # what goes with an image
    boots("a missing initrd", HALT, ImageError, "check the path of the initrd", initrd="/no/initrd"),
    boots("an initrd for a boot sector", HALT, ConfigError, "cannot be given --initrd; leave that out", initrd=b"x"),
    boots("a module for a boot sector", HALT, ConfigError, "cannot be given --module", modules=[("x", "", b"x")]),
    boots("a missing module", KERNEL, ImageError, "check the path of the module", modules=["/no/module"]),
    boots("a number as module", KERNEL, ConfigError, "3 is not a module: give a path", modules=[3]),
    boots("arguments for a boot sector", HALT, ConfigError, "cannot be given --append", append="quiet"),
    # drives
    boots("no disk file", HALT, ImageError, "no/disk: there is no such file; check the path of the disk.",
          disks=["/no/disk"]),
    boots("a directory as CD", HALT, ImageError, "is a directory; give a file.", cdrom="/"),
    boots("an empty disk", HALT, ImageError, "the file is empty, and a disk has at least one sector", disks=[b""]),
    boots("an empty CD", HALT, ImageError, "the file is empty, and a CD has at least one sector", cdrom=b""),
    boots("a large floppy", HALT, ImageError, "bytes, and the largest floppy 2949120 (2.88 MB); use it as a disk",
          floppy=bytes(2949121)),
    boots("a disk that is one", HALT, ConfigError, "disks='a.img': give a list of images.", disks="a.img"),
    boots("a disk of a wrong type", HALT, ConfigError, "disk=5: give a path, or the contents as bytes", disks=[5]),
    boots("bytes to be written", HALT, ConfigError, "the disk is bytes, which cannot be written: give a file",
          disks=[hv.Disk(HALT, mode="write")]),
    Case("an unknown disk mode", lambda _: hv.Disk("x", mode="rw"), ConfigError, "'rw': use one of overlay, write."),
    Case("an unknown interface", lambda _: hv.Disk("x", interface="scsi"), ConfigError, "'scsi': use one of ide."),
    boots("too many disks", HALT, ConfigError, "5 disks and CDs: the IDE controller has places for 4",
          disks=[HALT] * 4, cdrom=HALT),
    boots("two floppies", HALT, ConfigError, "is a floppy, and there is another one (--floppy)", floppy=HALT),
    boots("an unknown medium", HALT, ConfigError, "media='tape': use one of floppy, disk.", media="tape"),
    boots("a medium for a kernel", KERNEL, ConfigError, "is loaded into memory, not from a drive", media="disk"),
    boots("an unknown boot letter", HALT, ConfigError, "boot order 'cn': give each letter once, of a",
          boot_order="cn"),
    boots("nothing that boots", None, ImageError, "There is no bootable device (CD: it has no El Torito boot record",
          cdrom=bytes(40960), boot_order="d"),
    boots("a medium for nothing", None, ConfigError, "and there is no image; leave it out", media="disk",
          disks=[HALT]),
    Case("an unknown disk option", lambda _: parse_disk("a,cache=none"), ConfigError,
         "'a,cache=none': 'cache=none' is no option; give FILE[,if=ide][,mode=overlay|write]."),
    Case("a disk without a file", lambda _: parse_disk(",if=ide"), ConfigError, "',if=ide': give a file."),
    boots("a command line for nothing", None, ConfigError, "There is no image that --append could be for; leave that",
          append="quiet", disks=[HALT]),
    boots("options for nothing", None, ConfigError, "There is no image that --initrd and --mode could be for", mode=32,
          initrd=b"x", disks=[HALT]),
    # firmware
    boots("a command line for firmware", None, ConfigError, "There is no image that --append could be for",
          append="quiet", firmware=bytes(65536)),
    boots("no firmware file", None, ImageError, "/no/bios: there is no such file; give a firmware ROM, or 'seabios'.",
          firmware="/no/bios"),
    boots("a directory as firmware", None, ImageError, "/ is a directory; give a file.", firmware="/"),
    boots("an empty ROM", None, ImageError, "a multiple of 64 KiB and at most 16 MiB; this has 0 bytes", firmware=b""),
    boots("half a ROM", None, ImageError, "this has 32768 bytes. SeaBIOS is bios-256k.bin", firmware=bytes(32768)),
    boots("a large ROM", None, ImageError, "at most 16 MiB", firmware=bytes(32 << 20)),
    boots("a number as firmware", None, ConfigError, "firmware=7: give a file, 'seabios', or the ROM's", firmware=7),
    boots("firmware in little memory", None, ConfigError, "needs at least 4M of memory (--memory)",
          firmware=bytes(65536), memory="2M"),
    boots("firmware and a kernel", KERNEL, ConfigError, "is a kernel, and firmware boots from drives: leave one of",
          firmware=bytes(65536)),
    boots("firmware without a host bridge", None, ConfigError, "the board has no host bridge 'i440fx' on a bus 'pci'",
          firmware=bytes(65536), board=hv.pc().without("i440fx")),
    # options
    boots("memory in words", HALT, ConfigError, "'lots' is not a size; write a number with K, M or G", memory="lots"),
    boots("no memory", HALT, ConfigError, "it must be greater than zero", memory="0"),
    boots("memory without a unit", HALT, ConfigError, "'64' is not a size: it has no unit. 64M are MiB", memory="64"),
    boots("nothing to boot", None, ConfigError, "There is nothing to boot: give an image, a drive"),
    boots("no disks to boot", None, ConfigError, "There is nothing to boot", disks=[]),
    boots("memory of a wrong type", HALT, ConfigError, "3.5 is not a size; give bytes as", memory=3.5),
    boots("memory beyond the host's", HALT, ConfigError, "", memory="100000G"),
    boots("an unknown clock", HALT, ConfigError, "clock='sundial': choose 'virtual' or 'wall'.", clock="sundial"),
    boots("a seed in words", HALT, ConfigError, "seed='x': a whole number is needed.", seed="x"),
    boots("an unknown option", HALT, ConfigError, "memroy=: a machine has no such option. Did you", memroy="4M"),
    boots("a board by name", HALT, ConfigError, "board='pc': give a hypervisor.Board", board="pc"),
    Case("a part that is not there", lambda _: hv.pc().without("gpu"), ConfigError, "has no part 'gpu'; it has pic"),
    Case("a host without CPUs", lambda _: hv.Host(cpus=0), ConfigError, "a host has 1 to 64 physical CPUs"),
    Case("two VMs too large", two_vms, ConfigError, "The host has no 4 MiB of memory left for another VM"),
    Case("a closed host", closed_host, ConfigError, "The host is closed"),
    # plugins
    boots("an unknown plugin", HALT, PluginError, "There is no plugin nothing.", plugins=["nothing"]),
    boots("no such module", HALT, PluginError, "there is no module no.", plugins=["no.such:Thing"]),
    boots("no class", HALT, PluginError, "json has no class 'dumps'", plugins=["json:dumps"]),
    boots("an unknown plugin option", HALT, PluginError, "Plugin Dice has no option 'side'. Did you mean sides?",
          plugins=[(Dice, {"side": 3})]),
    boots("a colon for a plugin", HALT, PluginError, "':' names no plugin; write MODULE:CLASS, such as", plugins=[":"]),
    boots("a plugin that exits", HALT, PluginError, "Exiting: attach failed: SystemExit: 3", plugins=[Exiting]),
    boots("a plugin in one", HALT, PluginError, "is no plugin with options; give (plugin, {option", plugins=[(Dice,)]),
    boots("a plugin option in words", HALT, PluginError, "'six'; it must be a whole number",
          plugins=[f"{__name__}:Dice,sides=six"]),
    boots("a raising plugin", HALT, PluginError, "Raising: attach failed: ValueError: no dice", plugins=[Raising]),
    # handlers
    with_vm("overlapping handlers", overlap, TrapError, "(port 0x308-0x317) overlaps handler 'one'"),
    with_vm("a wrong signature", lambda vm: vm.traps.hlt(lambda vcpu: 0), TrapError, "a handler takes (vcpu, exit)"),
    with_vm("an unknown kind", lambda vm: vm.traps.halt(print), AttributeError, "no trap 'halt'; there are: clts"),
    with_vm("an unknown argument", lambda vm: vm.traps.hlt(print, nmae="x"), TrapError, "hlt(nmae=...): no such"),
    with_vm("a port beyond the last", lambda vm: vm.traps.port_in(1 << 16, print), TrapError, "is outside 0x0-0xffff"),
    with_vm("an unknown symbol", lambda vm: vm.traps.execute("main", print), ConfigError, "There is no symbol 'main'"),
    with_vm("an unknown handler", lambda vm: vm.traps.disable("x"), TrapError, "there is no handler 'x'"),
    handler("a raising handler", lambda vm: lambda vcpu, exit: 1 // 0, "ZeroDivisionError"),
    handler("a missing verdict", lambda vm: lambda vcpu, exit: None, "returned None instead of a verdict. End it"),
    handler("a step in a handler", lambda vm: lambda vcpu, exit: vcpu.step(1), "is running already"),
    handler("a run in a handler", lambda vm: lambda vcpu, exit: vm.run(), "is running already"),
    handler("a close in a handler", lambda vm: lambda vcpu, exit: vm.close(), "end its run before closing it"),
    handler("a late handler", lambda vm: lambda vcpu, exit: vm.traps.cpuid(print), "between runs"),
    Case("a vector beyond the last", lambda _: hv.inject(300), TrapError, "a vector is a number from 0 to 255"),
    with_vm("a coroutine", lambda vm: vm.traps.hlt(later), TrapError, "only makes a coroutine, which nobody awaits"),
    with_vm("a generator", lambda vm: vm.traps.hlt(values), TrapError, "only makes a generator"),
    with_vm("a late object", lambda vm: vm.traps.hlt(LateHandler(), name="x"), TrapError, "only makes a coroutine"),
    with_vm("a late condition", lambda vm: vm.run(until=soon), ConfigError, "only makes a coroutine"),
    with_vm("a late device's", lambda vm: vm.attach(LateDevice(), ports=range(1)), DeviceError, "mine.read: calling"),
    Case("a late set-up", lambda _: hv.run_asm("hlt", setup=soon), ConfigError, "only makes a coroutine"),
    with_vm("MMIO over RAM", mmio_over(range(0x80000, 0x81000)), TrapError,
            "mmio_write: 0x80000-0x80fff is RAM, whose accesses are none of device memory. Watch it with traps.memory("
            "range(0x80000, 0x81000), access='w')"),
    with_vm("MMIO over the end of RAM", mmio_over(range(0x3FF000, 0x500000), "mmio_read"), TrapError,
            "mmio_read: 0x3ff000-0x3fffff is RAM"),
    # what is written
    with_vm("a misspelt register", put("vcpu", "raxx", 3), AttributeError, "no attribute 'raxx'"),
    with_vm("a misspelt attribute", put("vm", "stirct", True), AttributeError, "has no 'stirct' that could be set."),
    with_vm("a misspelt host's", put("host", "memroy", 3), AttributeError, "Did you mean memory?"),
    with_vm("a wide register", put("vcpu", "rax", 1 << 64), ConfigError, "rax = 0x10000000000000000 has more than 64"),
    with_vm("a wide part", put("vcpu", "al", 256), ConfigError, "al = 0x100 has more than 8 bits"),
    with_vm("a wide negative part", put("vcpu", "al", -129), ConfigError, "al = -0x81 has more than 8 bits"),
    with_vm("a wide SSE register", put("vcpu", "xmm0", 1 << 128), ConfigError, "xmm0 = 0x1"),
    with_vm("a register in words", put("vcpu", "eax", "3"), ConfigError, "eax = '3': a whole number is needed."),
    with_vm("a fraction", put("vcpu", "rax", 3.0), ConfigError, "rax = 3.0: a whole number is needed."),
    with_vm("a selector for a segment", put("vcpu", "cs", 8), ConfigError, "cs = 8: give a Segment, such as vcpu.cs."),
    with_vm("a wide base", lambda vm: put("vcpu", "ds", vm.vcpu.ds._replace(base=1 << 64))(vm), ConfigError, "ds.base"),
    with_vm("a wide limit", lambda vm: put("vcpu", "gdtr", vm.vcpu.gdtr._replace(limit=1 << 16))(vm), ConfigError,
            "gdtr.limit = 0x10000 has more than 16 bits"),
    with_vm("a wide selector", lambda vm: vm.vcpu.set("ds", 1 << 16), ConfigError, "ds = 0x10000 has more than 16"),
    with_vm("a wide register by name", lambda vm: vm.vcpu.set("rbx", 1 << 64), ConfigError, "rbx = 0x1"),
    with_vm("a register of another thread's run", elsewhere, TrapError, "the VM runs in another thread"),
    answers("a wide answer to CPUID", "cpuid", "cpuid", "ebx", 1 << 32, "exit.ebx of cpuid = 0x100000000 has more"),
    answers("a CPUID in words", "cpuid", "cpuid", "eax", "x", "exit.eax of cpuid = 'x': a whole number is needed"),
    answers("another kind's result", "mov ecx, 0x1b; rdmsr", "rdmsr", "eax", 1, "exit.eax was written, and rdmsr has"),
    answers("another result than CPUID's", "cpuid", "cpuid", "value", 1, "exit.value was written, and cpuid has no"),
    answers("a wide RDTSC", "rdtsc", "rdtsc", "value", 1 << 64, "exit.value of rdtsc = 0x10000000000000000 has more"),
    answers("a wide CR4", "mov rax, cr4; mov cr4, rax", "cr_write", "value", 1 << 64, "exit.value of cr_write = 0x1"),
    answers("a wide port", "in al, 0x80", "port_in", "value", 256, "exit.value of port_in (1 bytes) = 0x100 has more"),
    answers("wide device memory", "mov eax, [0xd0000000]", "mmio_read", "value", 1 << 32, "exit.value of mmio_read (4"),
    answers("a wide selector of LDTR", "sldt ax", "sldt", "value", 1 << 16, "exit.value of sldt = 0x10000 has more"),
    answers("a misspelt field", "cpuid", "cpuid", "eaxx", 1, "no attribute 'eaxx'"),
    with_vm("memory that is not there", lambda vm: vm.memory.write(0x400000, b"x"), GuestFault, "0x400000 is no mem"),
    with_vm("memory to its end", lambda vm: vm.memory.write(0x3FFFFF, b"xy"), GuestFault,
            "2 bytes cannot be written at 0x3fffff: 0x400000-0x400000 is no memory."),
    with_vm("memory that is a ROM", lambda vm: vm.memory.write(0xFFFFFFF0, b"x"), GuestFault, "is read-only memory."),
    # devices
    with_vm("a device in the way", lambda vm: vm.attach(Device(), ports=range(0x3F8, 0x400)), DeviceError,
            "overlaps uart0 at 0x3f8-0x3ff. Choose another range, or pass replace=True"),
    with_vm("a device nowhere", lambda vm: vm.attach(Device()), DeviceError, "say where it answers"),
    with_vm("a device at a number", lambda vm: vm.attach(Device(), ports=0x300), DeviceError, "is not a range of I/O"),
    with_vm("not a device", lambda vm: vm.attach(object(), ports=range(1)), DeviceError, "it has no name, read"),
    with_vm("an interrupt beyond", lambda vm: vm.attach(Device(), ports=range(1), irq=99), DeviceError, "99"),
    with_vm("a late device", attach_late, DeviceError, "Devices are attached before the VM's first run."),
    # runs
    with_vm("running a closed VM", run_closed, ConfigError, "is closed; boot another one"),
    with_vm("a trap of a closed VM", closed(lambda vm: vm.traps.hlt(print)), ConfigError, "is closed; boot"),
    with_vm("a port of a closed VM", closed(lambda vm: vm.serial[0].send("x")), ConfigError, "is closed; boot another"),
    with_vm("a console that is closed", closed(lambda vm: vm.console.send("x")), ConfigError, "is closed; boot"),
    with_vm("a keyboard that is closed", closed(lambda vm: vm.keyboard.type("x")), ConfigError, "is closed; boot"),
    with_vm("a mouse that is closed", closed(lambda vm: vm.mouse.move(1, 0)), ConfigError, "is closed; boot another"),
    with_vm("a device of a closed VM", closed(lambda vm: vm.attach(Device(), range(1))), ConfigError, "is closed;"),
    with_vm("a log of a closed VM", closed(lambda vm: vm.log("io")), ConfigError, "is closed; boot another one"),
    with_vm("memory of a closed VM", read_closed, ConfigError, "The VM is closed"),
    Case("a vCPU of a closed VM", translate_closed, ConfigError, "is closed, and its state is gone"),
    Case("closing while it runs", close_while_running, ConfigError, "end its run before closing it"),
    with_vm("until a number", lambda vm: vm.run(until=5), ConfigError, "until=5: give a text, a compiled regular"),
    with_vm("a negative timeout", lambda vm: vm.run(timeout=-1), ConfigError, "timeout=-1: give a number of seconds"),
    with_vm("a timeout in words", lambda vm: vm.run(virtual_timeout="1"), ConfigError, "virtual_timeout='1': give"),
    with_vm("a log of nothing known", lambda vm: vm.log("ints"), ConfigError, "no category 'ints'; there are: int"),
    with_vm("a log without a place", lambda vm: vm.log(to="/nowhere/x"), ConfigError, "/nowhere/x cannot be written"),
    with_vm("a log to a number", lambda vm: vm.log("io", to=5), ConfigError, "log(to=5): give a path, or a function"),
    with_vm("an access of a kind", lambda vm: hv.explain(vm.vcpu, 0, "x"), ConfigError, "choose 'read', 'write' or"),
    with_vm("a step back", lambda vm: vm.vcpu.step(-1), ConfigError, "step(-1): give a number of instructions."),
    with_vm("memory below zero", lambda vm: vm.memory.read(-1, 4), GuestFault, "is not a range of guest-physical"),
    # assembling
    Case("nonsense", lambda _: hv.run_asm("nonsense eax"), HypervisorError, "<asm>:1: nonsense eax"),
    Case("no such mode", lambda _: hv.run_asm("hlt", mode=8), HypervisorError, "8 is not a mode"),
    Case("no such register", lambda _: hv.run_asm("hlt", regs={"foo": 1}), AttributeError, "has no register 'foo'"),
)  # fmt: skip


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fails a test that leaves threads, file descriptors or child processes behind."""
    hv.run_asm("hlt")  # the threads of its host stay
    threads, files = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    yield
    assert set(threading.enumerate()) == threads
    assert len(os.listdir("/proc/self/fd")) <= len(files)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_the_sentence(case: Case, tmp_path: Path) -> None:
    with pytest.raises(case.error) as caught:
        case.do(tmp_path)
    assert case.sentence in str(caught.value)


def test_names_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 25


NINES = "9" * 5000
COMMAND_LINES = (
    # an empty value
    ("", "image='': that is no path; name a file."),
    ("hello --memory=", "'' is not a size; write a number with K, M or G"),
    ("hello --initrd=", "initrd='': that is no path; name a file."),
    ("hello --module=", "--module: '': give FILE or FILE=ARGUMENTS."),
    ("hello --clock=", "clock='': choose 'virtual' or 'wall'."),
    ("hello --stats=", "--stats: '' cannot be written: No such file"),
    ("hello --plugin=", "'' names no plugin; write NAME[,key=value] or MODULE:CLASS[,key=value]."),
    ("hello --format=", "'' is not an image format; use one of linux"),
    ("hello --at=", "--at: '' is no address; give one such as 0x100000."),
    ("hello --entry=", "--entry: '' is no address; give one such as 0x100000."),
    ("hello --cdrom=", "CD='': that is no path; name a file."),
    ("hello --floppy=", "floppy='': that is no path; name a file."),
    ("hello --disk=", "--disk: '': give a file."),
    ("hello --boot=", "boot order '': give each letter once"),
    ("hello --media=", "media='': use one of floppy, disk."),
    ("hello --script=", "--script: '' cannot be read: No such file"),
    ("hello --log=", "--log is ''; give some of int, exits"),
    ("hello --display=", "--display is ''; it must be one of: auto"),
    ("hello --firmware=", "firmware ROM='': that is no path; name a file."),
    ("hello --gdb|", "Invalid value for '--gdb': '' is not a valid int."),
    ("hello --gdb :", "Invalid value for '--gdb': ':' is not a valid int."),
    ("hello --gdb :1234", "Invalid value for '--gdb': ':1234' is not a valid int."),
    # one that is no name
    ("hello --plugin :", "':' names no plugin; write MODULE:CLASS, such as mypackage.plugins:Dice."),
    ("hello --plugin a:", "'a:' names no plugin"),
    ("hello --plugin :b", "':b' names no plugin"),
    ("hello --plugin a:b:c", "'a:b:c' names no plugin"),
    ("hello --plugin .a:b", "'.a:b' names no plugin"),
    ("hello --plugin /etc/passwd:b", "'/etc/passwd:b' names no plugin"),
    # numbers beyond what is one
    (f"hello --memory {NINES}", "is not a size; write a number with K, M or G"),
    ("hello --memory \u0661G", "'\u0661G' is not a size"),
    (f"hello --at {NINES} --format flat --mode 32", "is no address; give one such as 0x100000."),
    ("hello --virtual-timeout nan", "--virtual-timeout is nan; give a number of seconds greater than zero."),
    ("hello --gdb 99999", "port=99999 is no TCP port"),
    # files that are none, or have no end
    ("/proc/self/mem", "/proc/self/mem has no size (Invalid argument), as the image must have; give a file."),
    ("hello --firmware /dev/zero", "/dev/zero is a device without an end; give a file."),
    ("hello --firmware FIFO", "is a pipe or a socket, which has no sectors; give a file."),
    ("hello --script /dev/zero", "--script: /dev/zero is larger than 1 MiB; no script is."),
    ("hello --disk FIFO", "is a pipe or a socket, which has no sectors; give a file."),
    ("hello --disk /dev/zero", "/dev/zero is a device without an end; give a file."),
    ("hello --stats .", "--stats: '.' cannot be written: Is a directory."),
    ("hello --log io:.", "cannot be written: Is a directory."),
)  # fmt: skip


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(("line", "sentence"), COMMAND_LINES, ids=range(len(COMMAND_LINES)))
def test_the_command_line(
    line: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words are separated by spaces; a bar at the end is an empty word."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("FIFO")
    words = [word.removesuffix("|") for word in line.replace("|", " |").split(" ")]
    assert main(["run", *words]) == 125
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said


def test_the_longest_times(capfd: pytest.CaptureFixture[str]) -> None:
    """More nanoseconds than a floating-point number can say."""
    with hv.boot(HALT, memory="4M") as vm:
        assert vm.run(timeout=1e308, virtual_timeout=1e308).reason is hv.Reason.HALTED
        assert vm.run(until=hv.after(1e308), virtual_timeout=1).reason is hv.Reason.HALTED


def test_a_file_that_fails_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "broken"
    image.write_bytes(HALT)

    def read(fd: int, size: int, offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", read)
    with pytest.raises(ImageError, match=r"broken cannot be read: Input/output error\."):
        hv.boot(image)


def test_an_unknown_build_of_unicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "UNICORN_VERSIONS", ("9.9.9",))
    with pytest.raises(EngineError, match=r"is not a build whose CPU-state layout is known \(known: 9\.9\.9\)"):
        native.Native()


def test_a_build_of_unicorn_that_hides_what_we_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SYMBOLS", (*layout.SYMBOLS, "no_such_function"))
    with pytest.raises(EngineError, match=r"does not export no_such_function\. Install the wheel from PyPI"):
        native.Native()


def test_running_twice_goes_on() -> None:
    """Not an error: a run that ended on a condition continues, and one that cannot go on ends in the same way."""
    with hv.boot(HALT, memory="4M") as vm:
        assert [vm.run(timeout=20).reason for _ in range(2)] == [hv.Reason.HALTED] * 2


def test_a_failed_boot_gives_its_memory_back() -> None:
    with hv.Host("8M") as host:
        for _ in range(20):
            with pytest.raises(ImageError):
                host.create_vm(b"garbage" * 100, memory="8M")
            with pytest.raises(PluginError):
                host.create_vm(HALT, memory="8M", plugins=[Raising])
        assert host.memory.free == 8 << 20
        assert host.create_vm(HALT, memory="8M").run(timeout=20).reason is hv.Reason.HALTED
