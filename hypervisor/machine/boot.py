"""Booting: an image, a board and options become a VM that is ready to run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypervisor import loaders
from hypervisor.backends.image_source import ImageLike
from hypervisor.errors import ConfigError, ImageError
from hypervisor.firmware.bios.bios import Bios
from hypervisor.firmware.bios.disk.drive_numbers import Drives
from hypervisor.firmware.bios.start import start
from hypervisor.garbage import uncollected
from hypervisor.machine import acpi, apic, cpuid_answers, drive_contents, pci_setup
from hypervisor.machine.described import described
from hypervisor.machine.drives import floppies
from hypervisor.machine.images import Subject, contents, look_at
from hypervisor.machine.isa_pc import PC
from hypervisor.memory.backing import backed
from hypervisor.run.host import CoreHost
from hypervisor.state import trusted
from hypervisor.traps import builtin
from hypervisor.traps.plugins.plugin_set import PluginSet, check_for_another
from hypervisor.units import MIB
from hypervisor.vm.board import Board, Parts
from hypervisor.vm.config import MachineConfig, Module
from hypervisor.vm.media import Media
from hypervisor.vm.snapshot import Snapshot, fill, put
from hypervisor.vm.vm import VM

if TYPE_CHECKING:
    from hypervisor.vm.figures import HostFigures
    from hypervisor.vm.saved.opening import SavedMachine


Prepare = Callable[[VM], object]
"""Gives a machine what is not in its configuration, before it runs."""


class Host(CoreHost):
    """An emulated machine with physical CPUs and memory, on which VMs are created.

    ``hv.Host(memory="1G", cpus=2, code_cache="64M", scheduler=None)``; use it as a context manager or `close` it.
    """

    vms: list[VM]  # type: ignore[assignment]  # the host knows them as tenants

    @uncollected()
    def create_vm(
        self,
        image: ImageLike | MachineConfig | None = None,
        *,
        moment: str | None = None,
        prepare: Prepare | None = None,
        **options: Any,
    ) -> VM:
        """A VM with a board and, if there is an image or something in a drive, a guest that is about to start.

        ``options`` are the fields of `hypervisor.MachineConfig`, which says what they mean; instead of an image, a
        whole configuration may be given, or the file of a machine, which goes on (``moment`` names one of several).
        ``prepare`` is called with the VM before it does, and gives it what is not in its configuration: handlers,
        devices, memory. Raises `ConfigError`, `ImageError`, `PluginError`.
        """
        with ExitStack() as opened:
            config, saved = described(image, options, moment, opened)
            return build(self, config, saved, prepare)

    def figures(self) -> HostFigures:
        """Where it and its VMs stand: processors, memory, exits, I/O. From any thread, while they run, too."""
        from hypervisor.vm.figures import figures_of_host

        self.check_open()
        return figures_of_host(self, self.vms)


@uncollected()
def boot(
    image: ImageLike | MachineConfig | None = None,
    memory: str | int | None = None,
    *,
    moment: str | None = None,
    prepare: Prepare | None = None,
    **options: Any,
) -> VM:
    """Boot an image, or a configuration, on a host of its own; closing the VM closes the host. ``options`` are those of
    `Host.create_vm`, of which ``memory`` may stand without its name.

    An image that is a file of `VM.save` is a machine that goes on where it was saved.

    Raises `ConfigError` where there is nothing to boot, and what `Host.create_vm` raises.
    """
    given = options if memory is None else {"memory": memory, **options}
    with ExitStack() as opened:
        config, saved = described(image, given, moment, opened)
        return _boot(config, saved, prepare)


def _boot(config: MachineConfig, saved: SavedMachine | None, prepare: Prepare | None) -> VM:
    if config.image is None and not config.boots_from_drives and saved is None:
        raise ConfigError(
            "There is nothing to boot: give an image, a drive (disks=, cdrom= or floppy=), or firmware=. "
            "Host.create_vm() makes a machine without any of them."
        )
    host = Host(config.size, 1)
    try:
        vm = build(host, config, saved, prepare)
        vm.owns_host = True
        return vm
    except BaseException:
        host.close()
        raise


@dataclass(frozen=True)
class MadeOf:
    """What was read of the host's files when a machine was built: neither a reset nor a fork reads it again."""

    subject: Subject | None
    data: bytes | None
    """The image, if it is loaded into memory."""
    spec: loaders.BootSpec

    @property
    def boots(self) -> bool:
        """Whether there is anything to start, by the built-in BIOS or without one."""
        return self.subject is not None or bool(self.drives)

    drives: bool = False
    """Whether anything is in the drives."""


def build(host: Host, config: MachineConfig, saved: SavedMachine | None = None, prepare: Prepare | None = None) -> VM:
    """The machine that a configuration describes, ``prepare``d; it goes on as the one that was ``saved``.

    Raises `ConfigError`, `ImageError`, `PluginError`.
    """
    host.check_open()
    if saved is not None:
        saved.check_prepared(prepare is not None)
        with backed(host.memory, saved.ram_pages):
            return _build(host, config, saved, prepare)
    return _build(host, config, saved, prepare)


def _build(host: Host, config: MachineConfig, saved: SavedMachine | None, prepare: Prepare | None) -> VM:
    subject = None if config.image is None else look_at(config.image)
    label = "no image" if subject is None else subject.name
    media = None
    vm = VM.__new__(VM)  # known before it takes anything, so that it can be closed whenever an interrupt comes
    try:
        media = drive_contents.gather(config)
        VM.__init__(vm, host, config, config.name or label)
        spec = _spec(config, label)
        data = _take(subject, media, spec, config.media, ordered=config.boot_order is not None)
        vm.made_of = made_of = MadeOf(subject, data, spec, bool(media))
        parts = _furnish(vm, media)
        if config.firmware is not None:
            _install_firmware(vm, parts, made_of)
        else:
            vm.symbols.add({} if subject is None else subject.symbols)
            vm.symbols.add(_start(vm, parts, made_of) if saved is None else _stand_by(vm, made_of))
            if data is not None:
                vm.symbols.add_lines(lambda: data)
        _finish(vm, parts, made_of)
        if prepare is not None:
            prepare(vm)
        if saved is not None:
            vm.restore(saved.state(vm))
        return vm
    except BaseException:
        _abandon(vm, media)
        raise


@uncollected()  # which took a third of the time
def go_on(snapshot: Snapshot, name: str, prepare: Prepare | None, identity: MachineConfig | None = None) -> VM:
    """A machine that goes on from a snapshot, on its host: built like the one that it is of, or like another one that
    differs in its identity, without starting it. Raises `ConfigError`, `DeviceError`, `PluginError`.
    """
    config, made_of = identity or snapshot.config, snapshot.made_of
    if not isinstance(made_of, MadeOf):
        raise ConfigError(f"{snapshot.name} was not built from a configuration, so no other machine is like it.")
    check_for_another(config.plugins)
    media = None
    vm = VM.__new__(VM)
    try:
        media = snapshot.media.twin()
        like_others = prepare is None and identity is None and not config.plugins
        mould = snapshot.casting.mould if like_others else None
        before = snapshot.casting.begin() if like_others and mould is None else None
        VM.__init__(vm, snapshot.host, config, name, snapshot)
        vm.made_of = made_of
        if mould is not None:
            _hold(vm, media)
            with vm.memory.changing():
                mould.cast(vm)
                fill(vm, snapshot)
            vm.symbols.follow(snapshot.symbols)
        else:
            made = dict(vars(vm))
            _build_again(vm, snapshot, made_of, media, prepare)
            snapshot.casting.end(vm, before, made)
        if identity is not None:
            vm.random.seed(identity.seed)
        vm.has_run = True
        return vm
    except BaseException:
        _abandon(vm, media)
        raise


def _build_again(vm: VM, snapshot: Snapshot, made_of: MadeOf, media: Media, prepare: Prepare | None) -> None:
    """Put a board into a machine that goes on from a snapshot, and make it the machine that this is of."""
    with ExitStack() as changing:
        for places in (vm.memory, vm.ports, vm.mmio):
            changing.enter_context(places.changing())
        parts = _furnish(vm, media)
        if vm.config.firmware is not None:
            _install_firmware(vm, parts, made_of)
        elif made_of.boots and _has_bios(vm, made_of):
            _start_bios(vm, made_of, power=False)
        vm.symbols.follow(snapshot.symbols)
        _finish(vm, parts, made_of)
        if prepare is not None:
            changing.close()  # it finds a machine whose places are what they seem
            prepare(vm)
        with trusted():  # checking all of them took a twentieth of the time; a revert puts few back
            put(vm, snapshot, by_changes=False)


Snapshot.builder = staticmethod(go_on)


def _spec(config: MachineConfig, label: str) -> loaders.BootSpec:
    return loaders.BootSpec(
        name=label,
        memory_size=config.size,
        memory_map=loaders.default_memory_map(config.size),
        append=config.append,
        initrd=None if config.initrd is None else contents("initrd", config.initrd),
        modules=[_module(module) for module in config.modules],
        format=config.format,
        at=config.at,
        entry=config.entry,
        mode=config.mode,
    )


def _furnish(vm: VM, media: Media) -> Parts:
    """Put a board into a machine, with what is in its drives, and the handlers that every machine has."""
    _hold(vm, media)
    vm.on_close.append(media.close)
    vm.plugins = PluginSet(vm.config.plugins)
    parts = _board(vm.config.board).build(vm)
    builtin.install(vm.traps, vm.random, vm.note_unclaimed)
    cpuid_answers.install(vm)
    return parts


def _hold(vm: VM, media: Media) -> None:
    """Have this in the drives."""
    vm.media = media
    vm.place.allowance.moved = media.moved


def _finish(vm: VM, parts: Parts, made_of: MadeOf) -> None:
    vm.reload = lambda: _reload(vm, parts, made_of)
    vm.reboot = vm.config.reboot
    vm.plugins.attach(vm)


def _abandon(vm: VM, media: Media | None) -> None:
    """The machine could not be made."""
    if "host" in vm.__dict__ and vm in vm.host.vms:
        vm.close()
    if media is not None:
        media.close()


def _take(
    subject: Subject | None, media: Media, spec: loaders.BootSpec, choice: str | None, *, ordered: bool
) -> bytes | None:
    """The bytes of an image that is loaded into memory; None if it has been put into a drive, or if there is none."""
    if subject is None:
        if choice is not None:
            raise ConfigError("media= says which drive an image is put into, and there is no image; leave it out.")
        _refuse_options_of_images(spec)
        return None
    from hypervisor.loaders import bootsector

    kind = loaders.check_format(subject.kind(spec.format))
    if kind in loaders.MEDIA_FORMATS:
        loaders.check_options(spec, kind)
        bootsector.check(subject.head(), spec, kind)
        drive_contents.insert(media, subject.source, kind, choice, ordered=ordered)
        return None
    if choice is not None or ordered:
        raise ConfigError(f"{subject.name} is loaded into memory, not from a drive: leave --media and --boot out.")
    data = subject.whole()
    subject.source.close()
    return data


def _refuse_options_of_images(spec: loaders.BootSpec) -> None:
    """Raise `ConfigError` for options that say how an image is loaded, where there is none."""
    options = {
        "--append": spec.append, "--initrd": spec.initrd, "--module": spec.modules, "--format": spec.format,
        "--at": spec.at, "--entry": spec.entry, "--mode": spec.mode,
    }  # fmt: skip
    given = [name for name, value in options.items() if value not in (None, "", [], ())]
    if given:
        raise ConfigError(f"There is no image that {' and '.join(given)} could be for; leave that out, or give one.")


def _board(board: object) -> Board:
    if board is None:
        return PC
    if not isinstance(board, Board):
        raise ConfigError(f"board={board!r}: give a hypervisor.Board, such as hv.pc() with parts changed.")
    return board


def _module(module: Module) -> tuple[str, str, bytes]:
    """(name, arguments, contents) of what the caller gave: a path, (path, arguments) or (name, arguments, contents)."""
    if isinstance(module, (str, os.PathLike)):
        return str(module), "", contents("module", module)
    if isinstance(module, (tuple, list)) and len(module) == 2:
        return str(module[0]), module[1], contents("module", module[0])
    if isinstance(module, (tuple, list)) and len(module) == 3 and isinstance(module[2], bytes):
        return module[0], module[1], module[2]
    raise ConfigError(f"{module!r} is not a module: give a path, or (path, arguments).")


def _has_bios(vm: VM, made_of: MadeOf) -> bool:
    """All but raw binaries find a BIOS, as on a PC: kernels, too, go back to real mode and call it."""
    return made_of.data is None or (made_of.spec.format != "flat" and vm.memory.size >= MIB)


def _start_bios(vm: VM, made_of: MadeOf, *, power: bool = True) -> Bios:
    media = vm.media
    drives = lambda: Drives(floppies(vm), media.disks, media.cd)  # noqa: E731
    return start(vm, drives, media.order, made_of.spec.memory_map, power=power)


class _Unwritten:
    """Memory for a loader whose guest is in memory already: what it writes is dropped."""

    def __init__(self, memory: loaders.GuestMemory) -> None:
        self.size, self.read = memory.size, memory.read

    def write(self, gpa: int, data: bytes | memoryview) -> None:
        """Drop it."""


def _start(vm: VM, parts: Parts, made_of: MadeOf) -> Mapping[str, int]:
    """Do what the firmware of a board does that has just been reset, and bring the guest to its first instruction: that
    of an image which is loaded, or of boot code in a drive. Returns the symbols of what has been loaded.
    """
    rsdp = _set_up(vm, parts)
    if not made_of.boots:
        return {}
    if made_of.data is not None:
        if _has_bios(vm, made_of):
            _start_bios(vm, made_of)
        return _enter(vm, loaders.load(made_of.data, replace(made_of.spec, acpi_rsdp=rsdp), vm.memory))
    from hypervisor.loaders import bootsector

    boot = _start_bios(vm, made_of).boot
    target = boot.first()
    if target is None:
        raise ImageError(f"There is {boot.message}. Give an image that boots, or another --boot order.")
    return _enter(vm, bootsector.enter((target.segment << 4) + target.offset, target.drive))


def _stand_by(vm: VM, made_of: MadeOf) -> Mapping[str, int]:
    """The same for a guest that goes on, and is in memory already: what `_start` puts there comes with its state."""
    if made_of.boots and _has_bios(vm, made_of):
        _start_bios(vm, made_of, power=False)
    if made_of.data is None:
        return {}
    entry = loaders.load(made_of.data, made_of.spec, _Unwritten(vm.memory))
    vm.notes.extend(entry.notes)
    return entry.symbols


def _enter(vm: VM, entry: loaders.Entry) -> Mapping[str, int]:
    """Put the first vCPU at an entry; returns its symbols."""
    vcpu = vm.vcpu
    vcpu.reset()
    registers = vcpu.registers
    for name, value in entry.regs.items():
        registers.set(name, value)
    for name, segment in entry.segments.items():
        registers.set_segment(name, segment)
    registers.set_table("gdtr", entry.gdtr)
    registers.set_table("idtr", entry.idtr)
    registers.set("cr3", entry.cr3)
    registers.set("cr4", entry.cr4)
    registers.set("efer", entry.efer)
    registers.set("cr0", entry.cr0)
    vm.notes.extend(note for note in entry.notes if note not in vm.notes)
    return entry.symbols


def _install_firmware(vm: VM, parts: Parts, made_of: MadeOf) -> None:
    from hypervisor.firmware.rom_boot import install

    if made_of.data is not None and made_of.subject is not None:
        raise ConfigError(
            f"{made_of.subject.name} is a kernel, and firmware boots from drives: leave one of the two out, or put the "
            "kernel on a disk or CD with a boot loader."
        )
    firmware = vm.config.firmware
    assert firmware is not None
    install(vm, parts, firmware, acpi.files(vm, parts))


def _set_up(vm: VM, parts: Parts) -> int:
    """Do what firmware does to a board that has just been reset; the address of the ACPI tables' root, or 0."""
    pci_setup.set_up(parts)
    apic.set_up(parts)
    return acpi.install(vm, parts)


def _reload(vm: VM, parts: Parts, made_of: MadeOf) -> None:
    """After a reset: what firmware does, and the image again if there is one. A ROM does that itself."""
    if vm.config.firmware is not None:
        return
    _start(vm, parts, made_of)
