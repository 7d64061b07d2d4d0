"""The command ``hypervisor-qemu``: from words to an exit status."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypervisor.cli.messages import end_printing, hold_standard_descriptors, print_at_once
from hypervisor.cli.qemu.command import PROGRAM, Command
from hypervisor.cli.qemu.meanings import LOG_ITEMS
from hypervisor.errors import HypervisorError, InternalError

ERROR = 1
_BOARDS = "pc                   a PC with 440FX and PIIX3 (default)"
_LISTS = {
    "d": "\n".join(f"{name:<15} {text}" for name, text in LOG_ITEMS.items()),
    "device": "isa-debug-exit\nisa-debugcon\nisa-serial\nide-hd\nide-cd\nfloppy",
    "cpu": "Any name is taken: the processor is the one of docs/machine.md.",
    "machine": _BOARDS,
    "M": _BOARDS,
}
"""What options answer to ``help``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the machine that a QEMU command line describes, and return QEMU's exit status."""
    hold_standard_descriptors()
    print_at_once()
    try:
        status = _main(sys.argv[1:] if arguments is None else arguments)
    except InternalError:
        traceback.print_exc()
        status = ERROR
    except HypervisorError as error:
        say(str(error))
        status = ERROR
    except OSError as error:
        say(f"{error.filename or 'input or output'}: {error.strerror or error}")
        status = ERROR
    except KeyboardInterrupt:  # before there is a machine, as while somebody is waited for
        status = 128 + signal.SIGINT
    return status if end_printing() else ERROR


def _main(words: Sequence[str]) -> int:
    from hypervisor.cli.qemu.option_table import help_text, understood

    if {"-h", "-help", "--help"} & set(words):
        print(help_text())
        return 0
    if {"-version", "--version"} & set(words):
        from hypervisor.cli.checks import DISTRIBUTION, installed_version

        ours = installed_version(DISTRIBUTION) or "(not installed)"
        # Who looks for QEMU's version finds three numbers (labgrid's driver), and its words (configure scripts).
        print(f"QEMU emulator version 7.2.0: its options, by {PROGRAM} of {DISTRIBUTION} {ours}")
        return 0
    for option, value in pairwise(words):
        if value in ("help", "?") and option.lstrip("-") in _LISTS:
            print(_LISTS[option.lstrip("-")])
            return 0
    return run(understood(words))


def say(text: str) -> None:
    """A message, on stderr: stdout is the guest's."""
    try:
        print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = None


def run(command: Command) -> int:
    """Make the machine and run it, connected to this process as was asked for."""
    from hypervisor.engine.layout import platform_problem

    if problem := platform_problem():
        raise HypervisorError(problem)
    import hypervisor
    from hypervisor.cli.qemu.as_config import configuration, ends
    from hypervisor.cli.qemu.connected import Connected

    serials, monitors = ends(command)
    config = configuration(command, serials)
    for note in command.notes:
        say(note)
    if command.pid_file is not None:
        with open(command.pid_file, "w") as file:
            file.write(f"{os.getpid()}\n")
    vm: Any = hypervisor.boot(config)
    try:
        with Connected(vm, command, serials, monitors, say) as connected:
            return connected.run()
    finally:
        vm.close()


__all__ = ["main", "run", "say"]
