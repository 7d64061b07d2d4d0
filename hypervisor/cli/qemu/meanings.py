"""What options mean, one function each: it is called with what was asked for so far and the option's value."""

from __future__ import annotations

from collections.abc import Callable

from hypervisor.cli.qemu.command import Command, DebugPort
from hypervisor.cli.qemu.ends.host_ends import FILE, NOWHERE, End, end_of, end_of_chardev
from hypervisor.cli.qemu.parsing import number, pairs, size, split
from hypervisor.errors import ConfigError

Meaning = Callable[[Command, str], object]

LOG_ITEMS = {
    "int": "interrupts and exceptions, with registers",
    "cpu_reset": "registers at each reset of a processor",
    "guest_errors": "accesses that nothing answers",
    "unimp": "what the board does not implement",
}
"""What ``-d`` writes here, as ``-d help`` lists it."""
OTHER_BOARDS = {
    "q35": "a 440FX (docs/machine.md): IDE in place of AHCI, and no PCI Express",
    "microvm": "a whole PC",
    "isapc": "a PC with PCI",
}


def memory(command: Command, text: str) -> None:
    """``-m 512``, ``-m 512M``, ``-m size=512M,...``."""
    keys = pairs(text, "size")
    if "size" in keys:
        command.memory = size(keys["size"], 1 << 20)


def processors(command: Command, text: str) -> None:
    """``-smp 2``, ``-smp cpus=2``, ``-smp sockets=1,cores=2,threads=1``."""
    keys = pairs(text, "cpus")
    if "cpus" in keys:
        command.cpus = number(keys["cpus"])
        return
    command.cpus = 1
    for name in ("sockets", "dies", "clusters", "cores", "threads"):
        command.cpus *= number(keys.get(name, "1"))


def boot(command: Command, text: str) -> None:
    """``-boot ORDER``, ``-boot order=dc,once=d,menu=on``. The network, from which nothing boots here, is left out."""
    keys = pairs(text, "order")
    for ignored in ("menu", "splash", "splash-time", "reboot-timeout", "strict"):
        keys.pop(ignored, None)
    order = keys.get("once", keys.get("order", ""))
    if set(order) - set("abcdnop"):
        raise ConfigError(f"-boot {text}: give an order of the letters a (floppy), c (disk), d (CD), such as dc.")
    order = "".join(letter for letter in dict.fromkeys(order) if letter in "acd")
    command.boot = order + "".join(letter for letter in "cad" if letter not in order) if order else None


def machine(command: Command, text: str) -> None:
    """``-machine pc``, ``-M q35``, ``type=pc,accel=tcg,...``."""
    keys = pairs(text, "type")
    kind = keys.pop("type", "pc")
    for start, here in OTHER_BOARDS.items():
        if kind.startswith(start) or kind.startswith(f"pc-{start}"):
            command.note(f"-machine {kind}: the guest finds {here}.")
            break
    else:
        if not (kind in ("pc", "none") or kind.startswith("pc-")):
            raise ConfigError(f"-machine {kind}: there is no such board; leave it out, or say pc.")
    if keys.get("graphics") == "off":
        command.nographic = True
    for key in keys:
        if key not in _MACHINE:
            command.note(f"-machine {key}={keys[key]}: this has no effect here.")


_MACHINE = frozenset((
    "accel", "graphics", "acpi", "hpet", "usb", "vmport", "smm", "kernel_irqchip", "kernel-irqchip", "pcspk-audiodev",
    "mem-merge", "dump-guest-core", "sata", "i8042", "fd-bootchk",
))  # fmt: skip


def serial(command: Command, text: str) -> None:
    """``-serial END``: the next serial port."""
    command.serials.append(_end(command, "-serial", text))


def monitor(command: Command, text: str) -> None:
    """``-monitor END``."""
    command.monitors.append(_end(command, "-monitor", text))


def qmp(command: Command, text: str) -> None:
    """``-qmp END``: a monitor for programs."""
    command.qmp.append(_for_programs("-qmp", _end(command, "-qmp", text)))


def debugcon(command: Command, text: str) -> None:
    """``-debugcon END``."""
    command.debug_ports.append(DebugPort(-1, _end(command, "-debugcon", text)))


def chardev(command: Command, text: str) -> None:
    """``-chardev stdio|file|socket|null,id=ID,path=FILE,mux=on``."""
    keys = pairs(text, "backend")
    if "id" not in keys:
        raise ConfigError(f"-chardev {text}: id= is missing; give it a name.")
    command.chardevs[keys["id"]] = end_of_chardev(keys)


def mon(command: Command, text: str) -> None:
    """``-mon chardev=ID,mode=readline|control``."""
    keys = pairs(text, "chardev")
    id, mode = keys.get("chardev", ""), keys.get("mode", "readline")
    if id not in command.chardevs:
        raise ConfigError(f"-mon: there is no -chardev with id={id or 'ID'} before it; give one.")
    if mode == "control":
        command.qmp.append(_for_programs("-mon mode=control", command.chardevs[id]))
    elif mode == "readline":
        command.monitors.append(command.chardevs[id])
    else:
        raise ConfigError(f"-mon mode={mode}: give readline, for people, or control, for programs.")


def _for_programs(option: str, end: End) -> End:
    if isinstance(end, str) and (end.startswith(FILE) or end == NOWHERE):
        raise ConfigError(f"{option} {end}: programs send commands there; give stdio or a socket.")
    return end


def _end(command: Command, option: str, text: str) -> End:
    if text.startswith("chardev:"):
        id = text.removeprefix("chardev:")
        if id not in command.chardevs:
            raise ConfigError(f"{option} {text}: there is no -chardev with id={id} before it; give one.")
        return command.chardevs[id]
    return end_of(option, text)


def display(command: Command, text: str) -> None:
    """``-display none`` shows nothing; every window is the terminal here."""
    command.display = pairs(text, "type").get("type") not in ("none", "egl-headless", "dbus")


def nographic(command: Command, text: str) -> None:
    """``-nographic``: the serial port and the monitor on the terminal, and no screen."""
    command.nographic, command.display = True, False


def vga(command: Command, text: str) -> None:
    """``-vga std``; others are that one, too."""
    if text not in ("std", "none"):
        command.note(f"-vga {text}: the display adapter is QEMU's -vga std.")
    elif text == "none":
        command.note("-vga none: the display adapter is there, and is not shown.")
        command.display = False


def debug_items(command: Command, text: str) -> None:
    """``-d ITEM,...``."""
    for item in split(text):
        if item in LOG_ITEMS:
            command.logs.append(item)
        elif item not in ("nochain", ""):
            command.note(
                f"-d {item}: this is not written here, where there are {', '.join(LOG_ITEMS)}; gdb steps through code "
                "(-s -S), and handlers see every exit (docs/traps.md)."
            )


def gdb(command: Command, text: str) -> None:
    """``-gdb tcp::PORT``, on this machine only."""
    if text == "none":
        command.gdb_port = None
        return
    address = text.removeprefix("tcp:")
    host, _, port = address.partition(",")[0].rpartition(":")
    if not text.startswith("tcp:") or host not in ("", "localhost", "127.0.0.1", "0.0.0.0") or not port.isdigit():
        raise ConfigError(f"-gdb {text}: give a port of this machine, such as tcp::1234.")
    command.gdb_port = int(port)


def clock(command: Command, text: str) -> None:
    """``-rtc base=utc|localtime|DATE``; ``clock=vm`` and its like are as they are."""
    command.start = pairs(text, "base").get("base", command.start)


def icount(command: Command, text: str) -> None:
    """``-icount ...``: time by the guest's instructions, as ``clock="virtual"`` of ours."""
    command.virtual = pairs(text, "shift").get("shift") != "off"


def network(option: str) -> Meaning:
    """``-net none``, ``-nic none`` and nothing else."""

    def mean(command: Command, text: str) -> None:
        if text != "none" and not text.startswith(("user", "dump")):
            raise ConfigError(f"{option} {text}: there is no network card on this board; leave it out, or say none.")

    return mean


def action(command: Command, text: str) -> None:
    """``-action reboot=reset|shutdown,shutdown=poweroff|pause``."""
    keys = pairs(text)
    command.reboot = keys.get("reboot", "reset" if command.reboot else "shutdown") == "reset"
    command.shutdown = keys.get("shutdown", "poweroff" if command.shutdown else "pause") == "poweroff"


def globally(command: Command, text: str) -> None:
    """``-global isa-debugcon.iobase=0x402``; other properties are of devices that have none here."""
    name, _, value = text.partition("=")
    if name == "isa-debugcon.iobase":
        command.debug_port = number(value)
    else:
        command.note(f"-global {text}: this has no effect here.")


def snapshot(command: Command, text: str) -> None:
    """``-snapshot``: files are not written."""
    command.snapshot = True


def accelerator(command: Command, text: str) -> None:
    """``-accel tcg|kvm,...``: the guest runs under Unicorn, which is QEMU's TCG, whatever is asked for."""
    pairs(text, "accel")


def switch(name: str, value: object) -> Meaning:
    """The meaning of an option that sets one field."""
    return lambda command, text: setattr(command, name, value)


def keep(name: str) -> Meaning:
    """The meaning of an option whose value is a field's."""
    return lambda command, text: setattr(command, name, text)


def more(name: str) -> Meaning:
    """The meaning of an option that may come several times."""
    return lambda command, text: getattr(command, name).append(text)
