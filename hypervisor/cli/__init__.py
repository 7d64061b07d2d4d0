"""The command line: ``hypervisor run``, ``up``, ``init``, ``info``, ``guests`` and ``doctor``.

``hypervisor run hello`` has a second for everything, so modules here import typer, rich and the engine only when they
are about to use them.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status (see `hypervisor.cli.status`).

    ``arguments`` are those after the program's name; None takes the process's own.
    """
    from hypervisor.cli.app import main as run_app

    return run_app(arguments)
