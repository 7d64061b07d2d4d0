"""``hypervisor run``: boot an image, connect it to this terminal, and end as it ended."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, TextIO

from hypervisor.cli import stats
from hypervisor.cli.messages import say
from hypervisor.cli.playing import keys, play, read_script
from hypervisor.cli.progress_bar import progress_bar
from hypervisor.cli.run_options import RunOptions, parse_log
from hypervisor.cli.status import ExitStatus, exit_status, sentence
from hypervisor.cli.tty.display import Display
from hypervisor.cli.tty.output import Output
from hypervisor.cli.tty.terminal import HELP, Terminal, is_interactive
from hypervisor.cli.tty.terminal_session import Session
from hypervisor.cli.vm_protocol import Guest, Result

if TYPE_CHECKING:
    from hypervisor.machine.script import Playing

MOMENT = 1e-3
"""Seconds that a guest runs for when ``--timeout`` ran out before: to say where it stands."""


def run(options: RunOptions) -> int:
    """Boot and run one guest; returns the exit status. Raises `HypervisorError` if it cannot be booted."""
    steps, typed = read_script(options.script), keys(options.type)
    stats_file = stats.open_stats(options.stats) if options.stats is not None else None
    # Now: a plugin may change the current folder.
    logs = [(what, file and os.path.abspath(file)) for what, file in map(parse_log, options.logs)]
    terminal = Terminal() if is_interactive() else None
    try:
        vm = _boot(options, interactive=terminal is not None)
        try:
            if typed:
                vm.keyboard.type(typed)
            for what, file in logs:
                vm.log(what, to=file)
            return _run_booted(vm, options, terminal, stats_file, play(vm, steps))
        finally:
            vm.close()
    except Exception as error:
        if stats_file and not stats_file.closed:
            stats.write(stats_file, stats.of_error(error))
        raise
    finally:
        if terminal:
            terminal.restore()


def _boot(options: RunOptions, *, interactive: bool) -> Guest:
    import hypervisor

    vm: Guest = hypervisor.boot(options.machine_for(interactive=interactive), moment=options.moment)
    return vm


def _run_booted(
    vm: Guest, options: RunOptions, terminal: Terminal | None, stats_file: TextIO | None, script: Playing | None
) -> int:
    if options.gdb is not None:
        server = vm.gdb(options.gdb, wait=options.wait)
        say(f'gdb: "target remote :{server.port}"{" lets the guest start" if options.wait else ""}')
    on_demand = vm.config.clock == "virtual" and terminal is None
    output = Output(1, on_failure=vm.request_stop)
    display = Display(vm, options.display, terminal, output)
    timeout = time_left(options.timeout, vm)
    with Session(
        vm,
        stdin=_input(terminal),
        output=output,
        terminal=terminal,
        on_demand=on_demand,
        display=display,
        timeout=timeout,
    ) as session:
        if terminal:
            say(HELP)  # the terminal is the guest's from here on
        until = script or options.until
        result = vm.run(until=until, timeout=timeout, virtual_timeout=options.virtual_timeout)
    status = exit_status(result, halt_ok=options.halt_ok, success=options.success)
    if result.reason.value == "stopped" and session.received is not None:
        status = 128 + session.received
    came = result.reason.value == "until"
    if came and script is None:
        status = ExitStatus.POWERED_OFF
    unplayed = script.waits_at if script is not None else None
    missed = options.until is not None and not came
    if (unplayed is not None or missed) and status == 0:
        status = ExitStatus.ERROR
    if left_out := display.finish():
        say(left_out)
    if output.failure and session.received is None:
        status = ExitStatus.ERROR
    if not output.at_line_start and os.isatty(1):
        os.write(2, b"\n")
    if not (came and script is None) and (text := _sentence(result, vm, options)):
        say(text)
    if missed:
        say(f"--until: the run ended, and the guest has not written {options.until!r}.")
    if options.save is not None and not missed:
        with progress_bar("saving") as progress:
            vm.save(options.save, embed=options.embed, progress=progress)
        say(f"the machine is saved in {options.save}; `hypervisor run {options.save}` goes on.")
    if output.failure and output.failure != result.message:
        say(f"{output.failure}.")
    if unplayed is not None:
        say(f"--script {options.script}: the run ended while line {unplayed.line} ({unplayed.source}) was waiting.")
    if stats_file:
        stats.write(stats_file, stats.of_result(result, vm, status))
    return status


def time_left(timeout: float | None, vm: Guest) -> float | None:
    """What is left of ``--timeout``: loading the image, and whatever else came before the run, counts."""
    return None if timeout is None else max(timeout - (time.monotonic() - vm.began), MOMENT)


def _sentence(result: Result, vm: Guest, options: RunOptions) -> str | None:
    if options.halt_ok and result.reason.value in ("halted", "idle"):
        return None
    return sentence(result, place(vm, behind=result.reason.value in ("halted", "idle")))


def place(vm: Guest, *, behind: bool = False) -> str:
    """Where the guest stands, with the symbol if one is known: that of the HLT ``behind`` which it stands."""
    rip = vm.vcpu.rip
    symbol = vm.symbols.lookup(rip - behind)
    if symbol is None:
        return f"RIP {rip:#x}"
    name, offset = symbol[0], symbol[1] + behind
    return f"RIP {rip:#x} ({name}+{offset:#x})" if offset else f"RIP {rip:#x} ({name})"


def _input(terminal: Terminal | None) -> int | None:
    """The descriptor to read the guest's input from: the terminal if it is ours, or anything that is not a terminal."""
    if sys.stdin is None or (terminal is None and os.isatty(0)):
        return None
    return 0
