"""``hypervisor doctor``: is this installation whole? Every finding is a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.cli.checks import CHECKS, Check, Finding, State


def examine(checks: Sequence[Check]) -> list[Finding]:
    """Run the checks. One that fails to run at all is a broken one: a sick installation must not stop its doctor."""
    findings = []
    for check in checks:
        try:
            findings.append(check())
        except Exception as error:
            name = check.__name__.replace("_", " ")
            findings.append(Finding(name, State.BROKEN, f"could not be checked: {type(error).__name__}: {error}"))
    return findings


def exit_status(findings: Sequence[Finding]) -> int:
    """1 when anything is broken, otherwise 0."""
    return int(any(finding.state is State.BROKEN for finding in findings))


def compile_for_this_processor() -> None:
    """Compile the kernels if there are none yet for this very processor."""
    from hypervisor.engine.compiling.choosing import choose
    from hypervisor.engine.compiling.compiler import fill

    chosen = choose()
    if isinstance(chosen, str):
        fill(chosen)
    elif chosen.shipped:
        fill("those of the package are not for this very processor")


def report() -> int:
    """Print the findings as a table and return the exit status."""
    from rich.text import Text

    from hypervisor.cli.table import print_table

    findings = examine(CHECKS)
    colour = {State.OK: "green", State.NOTE: "yellow", State.BROKEN: "bold red"}
    print_table([(Text(one.state.value, colour[one.state]), Text(one.name), Text(one.text)) for one in findings])
    return exit_status(findings)
