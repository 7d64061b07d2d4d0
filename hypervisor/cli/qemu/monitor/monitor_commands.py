"""The monitor's commands: a table of names, functions and help, in QEMU's words."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from hypervisor.cli.qemu.monitor import cpu_text, expressions, memory_text, pages_text, pictures
from hypervisor.cli.qemu.monitor.memory_text import Format
from hypervisor.errors import ConfigError


class State:
    """What a monitor remembers: which vCPU it looks at, and how memory was shown last."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.vm = machine.vm
        self.number = 0
        self.format = Format()
        self.over = False

    @property
    def vcpu(self) -> Any:
        """The vCPU that it looks at."""
        return self.vm.vcpus[self.number]


class UnknownCommandError(ConfigError):
    """There is no such command."""


class Command(NamedTuple):
    """A command: what its arguments are called, what it does, its line of help."""

    arguments: str
    function: Callable[[State, list[str]], str | None]
    help: str
    paused: bool = True
    """Whether the guest stands still meanwhile."""


def run(state: State, line: str) -> str:
    """What a command prints. Raises `ConfigError`."""
    name, _, rest = line.partition(" ")
    if not name.count("/") and rest.lstrip().startswith("/"):  # as in QEMU's own help: xp /FMT ADDR
        format, _, rest = rest.lstrip().partition(" ")
        name += format
    name, slash, format = name.partition("/")
    command = COMMANDS.get(name)
    if command is None:
        raise UnknownCommandError(f"unknown command: '{name}'")
    try:
        words = ([format] if slash else []) + (rest.split() if name in _EXPRESSIONS else shlex.split(rest))
    except ValueError as error:
        raise ConfigError(f"{rest}: {error}") from error
    if name in _EXPRESSIONS:
        words = [format if slash else "", rest]
    if not command.paused:
        return command.function(state, words) or ""
    with state.vm.paused():
        return command.function(state, words) or ""


# --- looking --------------------------------------------------------------------------------------------------------


def _info(state: State, words: Sequence[str]) -> str:
    what = words[0] if words else ""
    if what not in INFO:
        raise ConfigError(f"info {what}: there are info {', '.join(INFO)}.")
    return INFO[what](state, list(words[1:]))


def _registers(state: State, words: Sequence[str]) -> str:
    vcpus = state.vm.vcpus if "-a" in words else [state.vcpu]
    return "\n".join(f"\nCPU#{vcpu.number}\n{cpu_text.dump(vcpu, fpu=True)}" for vcpu in vcpus)


def _cpus(state: State, words: Sequence[str]) -> str:
    return "\n".join(
        f"{'*' if vcpu.number == state.number else ' '} CPU #{vcpu.number}: {vcpu.activity}" for vcpu in state.vm.vcpus
    )


INFO: dict[str, Callable[[State, list[str]], str]] = {
    "registers": _registers,
    "mem": lambda state, words: pages_text.mem(state.vcpu),
    "tlb": lambda state, words: pages_text.tlb(state.vcpu),
    "status": lambda state, words: f"VM status: {state.machine.status}",
    "cpus": _cpus,
    "name": lambda state, words: str(state.vm.name),
    "version": lambda state, words: "7.2",
}


def _examine(state: State, words: Sequence[str], *, physical: bool) -> str:
    state.format = memory_text.parse_format(words[0], state.format)
    address = expressions.value(words[1], state.vcpu)
    return memory_text.dump(state.vcpu, state.format, address, physical=physical)


def _print(state: State, words: Sequence[str]) -> str:
    letter = memory_text.parse_format(words[0], Format()).letter
    return memory_text.number(expressions.value(words[1], state.vcpu), letter)


def _cpu(state: State, words: Sequence[str]) -> None:
    number = int(words[0]) if words and words[0].isdigit() else -1
    if not 0 <= number < len(state.vm.vcpus):
        raise ConfigError("invalid CPU index")
    state.number = number


def _memsave(state: State, words: Sequence[str], *, physical: bool) -> None:
    if len(words) != 3:
        raise ConfigError("give an address, a size and a file.")
    address, size = (expressions.value(word, state.vcpu) for word in words[:2])
    if size > state.vm.memory.size:
        raise ConfigError(f"{size} bytes are more than the machine has.")
    data = state.vm.memory.read(address, size) if physical else state.vcpu.read(address, size)
    with open(words[2], "wb") as file:
        file.write(data)


# --- doing ----------------------------------------------------------------------------------------------------------


def _quit(state: State, words: Sequence[str]) -> None:
    state.over = True
    state.machine.quit()


def _screendump(state: State, words: Sequence[str]) -> None:
    kind = "ppm"
    words = list(words)
    if "-f" in words[:-1]:
        at = words.index("-f")
        kind = words[at + 1]
        del words[at : at + 2]
    if not words:
        raise ConfigError("screendump: give a file.")
    pictures.write(state.vm, words[0], kind)


def _sendkey(state: State, words: Sequence[str]) -> None:
    if not words:
        raise ConfigError("sendkey: give keys, such as ctrl-alt-delete.")
    hold = {} if len(words) < 2 else {"hold": expressions.value(words[1], state.vcpu) / 1000}
    state.vm.keyboard.press(*(_KEYS.get(key, key) for key in words[0].split("-")), **hold)


_KEYS = {"asterisk": "kp_multiply"}
"""Keys that QEMU calls otherwise than we do."""


def _help(state: State, words: Sequence[str]) -> str:
    shown = {name: one for name, one in COMMANDS.items() if not words or name in words}
    return "\n".join(f"{f'{name} {one.arguments}'.strip()} -- {one.help}" for name, one in shown.items())


_EXPRESSIONS = ("x", "xp", "print", "p")
"""Commands whose argument is one expression, with a format behind a slash."""


def _many(names: str, command: Command) -> dict[str, Command]:
    return dict.fromkeys(names.split(), command)


COMMANDS: dict[str, Command] = {
    **_many("help ?", Command("[COMMAND]", _help, "this list", paused=False)),
    "info": Command("WHAT", _info, "registers [-a], mem, tlb, status, cpus, name, version"),
    "x": Command("/FMT ADDR", partial(_examine, physical=False), "virtual memory, as x/4xw $esp"),
    "xp": Command("/FMT ADDR", partial(_examine, physical=True), "physical memory"),
    **_many("print p", Command("/FMT EXPR", _print, "an expression, such as p/x $eip + 4")),
    "cpu": Command("N", _cpu, "look at another processor"),
    "memsave": Command("ADDR SIZE FILE", partial(_memsave, physical=False), "virtual memory to a file"),
    "pmemsave": Command("ADDR SIZE FILE", partial(_memsave, physical=True), "physical memory to a file"),
    "screendump": Command("FILE [-f png]", _screendump, "the screen to a file, as PPM or PNG"),
    "sendkey": Command("KEYS [MS]", _sendkey, "press keys, as sendkey ctrl-alt-f1", paused=False),
    "stop": Command("", lambda state, words: state.machine.stop(), "stand still", paused=False),
    **_many("cont c", Command("", lambda state, words: state.machine.go_on(), "go on", paused=False)),
    "system_reset": Command("", lambda state, words: state.machine.reset(), "the reset button", paused=False),
    "system_powerdown": Command(
        "", lambda state, words: state.vm.press_power_button(), "the power button", paused=False
    ),
    "nmi": Command("", lambda state, words: state.vm.nmi(state.number), "a non-maskable interrupt", paused=False),
    **_many("quit q", Command("", _quit, "end, with status 0", paused=False)),
}  # fmt: skip
