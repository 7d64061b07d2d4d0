"""The commands and options, declared for typer. This module only parses; the work is in the modules beside it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from hypervisor.cli.machine_options import with_machine_options
from hypervisor.cli.messages import end_printing, hold_standard_descriptors, print_at_once, say
from hypervisor.cli.status import ExitStatus
from hypervisor.errors import EngineError, HypervisorError, InternalError

# Neither rich help nor rich tracebacks: importing rich would take longer than booting a small guest.
app = typer.Typer(name="hypervisor", rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

# typer exports only this leaf of the tree of usage errors; the root is what every one of them derives from.
_UsageError = typer.BadParameter.__mro__[2]

_NO_MEMORY = "the host has no memory left (or ulimit -v allows no more); give the guest less with --memory"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse ``arguments`` (None: those of the process), run the command, and return the exit status."""
    hold_standard_descriptors()
    print_at_once()
    status = _run_command(arguments)
    return status if end_printing() else ExitStatus.ERROR


def _run_command(arguments: Sequence[str] | None) -> int:
    from hypervisor.cli.run_options import with_gdb_port

    command = typer.main.get_command(app)
    try:
        typed = with_gdb_port(sys.argv[1:] if arguments is None else arguments)
        status = command.main(args=typed, prog_name="hypervisor", standalone_mode=False)
        return int(status or 0)
    except InternalError:
        traceback.print_exc()
    except HypervisorError as error:
        say(str(error))
    except OSError as error:
        say(f"{error.filename or 'input or output'}: {error.strerror or error}.")
    except typer.Abort:
        return 130
    except MemoryError:
        say(f"{_NO_MEMORY}.")
    except SystemExit as exit_:
        if isinstance(
            exit_.__context__, BrokenPipeError
        ):  # (typer has caught that one, and ends the process by itself)
            say(f"standard output failed: {exit_.__context__.strerror}.")
            return ExitStatus.ERROR
        traceback.print_exc()
        say("a plugin called sys.exit() (see above); its handlers end a run by returning hypervisor.stop(reason).")
    except Exception as error:
        if isinstance(error, _UsageError):
            error.show()  # type: ignore[attr-defined]  # usage, a pointer to --help, and the sentence
        elif str(error) == "can't start new thread":
            say("no thread can be started: there is no memory left for its stack (ulimit -v), or no more are allowed.")
        else:
            traceback.print_exc()
            say("this is a bug in rootmode; please report it with the lines above.")
    return ExitStatus.ERROR


def _version(wanted: bool) -> None:
    if wanted:
        from hypervisor.cli.checks import DISTRIBUTION, installed_version

        typer.echo(f"{DISTRIBUTION} {installed_version(DISTRIBUTION) or '(not installed)'}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Boot unmodified x86 guests under a hypervisor whose root mode is Python."""


@app.command()
@with_machine_options
def run(
    machine: dict[str, Any],
    config: Annotated[
        str | None, typer.Option(help="A machine's configuration in TOML; options here change it.", metavar="FILE")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="End after host SECONDS, loading included.", metavar="SECONDS")
    ] = None,
    virtual_timeout: Annotated[float | None, typer.Option(help="End after guest SECONDS.", metavar="SECONDS")] = None,
    stats: Annotated[str | None, typer.Option(help="Write figures about the run as JSON.", metavar="FILE")] = None,
    halt_ok: Annotated[bool, typer.Option("--halt-ok", help="A guest that halts for good has succeeded.")] = False,
    success: Annotated[
        str | None, typer.Option(help="Debug-exit statuses that mean success: end with 0.", metavar="STATUS[,STATUS]")
    ] = None,
    type_: Annotated[
        str | None, typer.Option("--type", help="Type this on the keyboard; \\n is Enter.", metavar="TEXT")
    ] = None,
    script: Annotated[
        str | None, typer.Option(help="Play a script of wait, send, type and press lines.", metavar="FILE")
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            help="A line for each event of int, exits, faults, io, bios, reset; to stderr, or to FILE.",
            metavar="WHAT[:FILE]",
        ),
    ] = None,
    display: Annotated[
        str,
        typer.Option(
            help="What is shown: the screen, too, if the guest draws there.", metavar="auto|serial|screen|none"
        ),
    ] = "auto",
    gdb: Annotated[
        int | None, typer.Option(help="Let gdb debug the guest, on a port of this machine (1234).", metavar="[PORT]")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Hold the guest until gdb lets it go on.")] = False,
    until: Annotated[
        str | None, typer.Option(help="End, with status 0, when the guest has written TEXT.", metavar="TEXT")
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(help="Save the machine in FILE when its run ends (with --until: there).", metavar="FILE"),
    ] = None,
    moment: Annotated[
        str | None, typer.Option(help="Which machine of an IMAGE that has several goes on.", metavar="NAME")
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Put the files that the machine was made from into that FILE.")
    ] = False,
) -> int:
    """Boot IMAGE, or the first drive that boots, with its console on this terminal, and end with its status. An IMAGE
    that --save has written is a machine that goes on.

    Exit status: the guest's debug-exit status (0 if --success names it); 0 after power-off; 121 stopped by a handler or
    by Ctrl-A x; 122 reset; 123 halted or idle; 124 timeout; 125 our own error, bad usage, or a script cut short; 126
    the guest crashed; 128+n signal n was received.
    """
    from hypervisor.cli.run_options import RunOptions, parse_statuses
    from hypervisor.engine.layout import platform_problem
    from hypervisor.vm.config import MachineConfig

    if problem := platform_problem():
        raise EngineError(problem)  # before importing what only this platform has
    from hypervisor.cli.run_command import run as run_guest

    described = MachineConfig.of(None if config is None else MachineConfig.from_toml(config), machine)
    return run_guest(
        RunOptions(
            machine=described,
            clock_given="clock" in machine or config is not None,
            timeout=timeout,
            virtual_timeout=virtual_timeout,
            stats=stats,
            halt_ok=halt_ok,
            success=parse_statuses(success),
            gdb=gdb,
            wait=wait,
            type=type_,
            script=script,
            logs=tuple(log or ()),
            display=display,
            until=until,
            save=save,
            embed=embed,
            moment=moment,
        )
    )


@app.command()
def up(
    file: Annotated[str, typer.Argument(help="The description of a host and its machines, in TOML.", metavar="FILE")],
    interval: Annotated[float, typer.Option(help="Figures every SECONDS.", metavar="SECONDS")] = 1.0,
    timeout: Annotated[float | None, typer.Option(help="End after host SECONDS.", metavar="SECONDS")] = None,
    virtual_timeout: Annotated[float | None, typer.Option(help="End after guest SECONDS.", metavar="SECONDS")] = None,
    json: Annotated[bool, typer.Option("--json", help="Lines of JSON on a terminal, too.")] = False,
) -> int:
    """Start all machines of FILE on one host, and show them until all have ended: as one table on a terminal, else as
    lines of JSON.

    Exit status: 0 when all guests have ended by themselves; 121 when they were ended by q or Ctrl-C in the table; 124
    timeout; 125 our own error, or a handler's; 126 one crashed; 128+n signal n was received.
    """
    from hypervisor.engine.layout import platform_problem

    if problem := platform_problem():
        raise EngineError(problem)
    from hypervisor.cli.up.up_command import UpOptions
    from hypervisor.cli.up.up_command import up as up_all

    return up_all(UpOptions(file, interval, timeout, virtual_timeout, json))


@app.command()
def init(
    folder: Annotated[str, typer.Argument(help="The new folder; its name becomes the project's.", metavar="FOLDER")],
    lang: Annotated[
        str | None, typer.Option(help="The language of the kernel: asm unless said.", metavar="asm|c")
    ] = None,
    plugin: Annotated[bool, typer.Option("--plugin", help="A plugin in Python instead of a kernel.")] = False,
) -> int:
    """Make a project to start from: a kernel that prints, its build, tests that pass, and a workflow for CI."""
    from hypervisor.cli.init.init_command import init as make_project

    return make_project(folder, lang, plugin)


@app.command()
def info(file: Annotated[str, typer.Argument(help="A file that `run --save` has written.", metavar="FILE")]) -> int:
    """Say what is in the file of a machine: what it was made from, where it stands, whether it is undamaged."""
    from hypervisor.cli.info import show

    return show(file)


@app.command()
def guests() -> int:
    """List the guests that come with the package; `hypervisor run NAME` boots one."""
    from hypervisor.cli.guests import list_guests

    return list_guests()


@app.command()
def doctor(
    compile_: Annotated[
        bool, typer.Option("--compile", help="First compile the engine's kernels for this very processor (20 s).")
    ] = False,
) -> int:
    """Check this installation, and say in a sentence what is wrong with it (exit status 1 then)."""
    from hypervisor.cli.doctor import compile_for_this_processor, report

    if compile_:
        compile_for_this_processor()
    return report()
