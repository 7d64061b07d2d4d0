"""The commands behind gdb's ``monitor``: a few, for what gdb has no words for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hypervisor.debug.gdb.gdb_session import Session
from hypervisor.debug.register_text import mode_name, registers
from hypervisor.debug.walk import explain
from hypervisor.errors import ConfigError


class Command(NamedTuple):
    """A command, with its line of ``monitor help``."""

    function: Callable[[Session, Sequence[str]], str]
    help: str


def run(session: Session, line: str) -> str:
    """What a command prints. Raises `ConfigError` for one that does not exist."""
    name, *arguments = line.split() or ["help"]
    if name not in COMMANDS:
        raise ConfigError(f"monitor {name}: there is no such command; there are {', '.join(COMMANDS)}.")
    return COMMANDS[name].function(session, arguments)


def _help(session: Session, arguments: Sequence[str]) -> str:
    return "\n".join(f"monitor {name:10}{command.help}" for name, command in COMMANDS.items())


def _info(session: Session, arguments: Sequence[str]) -> str:
    vm = session.vm
    lines = [f"{vm.name}: {vm.memory.size >> 20} MiB, {vm.clock.now_ns / 1e9:.6f} s since power-on"]
    return "\n".join(lines + [f"vCPU {vcpu.number}: {_state(vm, vcpu)}" for vcpu in vm.vcpus])


def _registers(session: Session, arguments: Sequence[str]) -> str:
    return registers(session.vcpu)


def _walk(session: Session, arguments: Sequence[str]) -> str:
    if not 0 < len(arguments) <= 2:
        raise ConfigError("monitor walk: give an address and perhaps an access, such as monitor walk 0xb8000 write.")
    try:
        address = int(arguments[0], 0)
    except ValueError:
        raise ConfigError(f"monitor walk: {arguments[0]!r} is no address; give a number such as 0xb8000.") from None
    return str(explain(session.vcpu, address, arguments[1] if arguments[1:] else "read"))


def _memory(session: Session, arguments: Sequence[str]) -> str:
    if list(arguments) not in (["physical"], ["virtual"], []):
        raise ConfigError("monitor memory: choose physical or virtual.")
    if arguments:
        session.memory.physical = arguments[0] == "physical"
    return f"addresses are {'guest-physical' if session.memory.physical else 'linear'}"


def _reset(session: Session, arguments: Sequence[str]) -> str:
    session.vm.reset()
    return 'reset; gdb learns it by "maintenance flush register-cache"'


def _snapshot(session: Session, arguments: Sequence[str]) -> str:
    if len(arguments) > 1:
        raise ConfigError("monitor snapshot: give one name, such as monitor snapshot booted.")
    if not arguments:
        return str(session.remembered)
    return f"{arguments[0]} is the machine at {session.remembered.take(arguments[0]).now_ns / 1e9:.6f} s"


def _revert(session: Session, arguments: Sequence[str]) -> str:
    if len(arguments) != 1:
        raise ConfigError(f"monitor revert: say which snapshot; {session.remembered}")
    pages = session.go_back(arguments[0])
    return (
        f"{arguments[0]}: {session.vm.clock.now_ns / 1e9:.6f} s, pages of memory put back: {pages}; gdb learns it by "
        '"maintenance flush register-cache" and "maintenance flush dcache"'
    )


COMMANDS = {
    "info": Command(_info, "the VM, its time, and where each vCPU stands"),
    "registers": Command(_registers, "all registers of the vCPU, with the hidden parts of its segments"),
    "walk": Command(_walk, "ADDRESS [read|write|fetch]: the page walk of an access, in words"),
    "memory": Command(_memory, "[physical|virtual]: what addresses gdb's commands mean"),
    "reset": Command(_reset, "reset the machine, which stays stopped"),
    "snapshot": Command(_snapshot, "[NAME]: give this moment a name; the names that there are"),
    "revert": Command(_revert, "NAME: become what the machine was then"),
    "help": Command(_help, "these lines"),
}


def _state(vm: Any, vcpu: Any) -> str:
    where = vm.symbols.describe(vcpu.linear_rip)
    text = f"{mode_name(vcpu)}, at {vcpu.linear_rip:#x}{f' ({where})' if where else ''}"
    return text if vcpu.activity == "running" else f"{text}, {vcpu.activity}"
