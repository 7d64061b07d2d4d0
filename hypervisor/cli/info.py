"""``hypervisor info FILE``: what is in the file of a machine."""

from __future__ import annotations


def show(path: str) -> int:
    """Print it; returns the exit status. Raises `ImageError` for a file that is none, or that is damaged."""
    from rich.text import Text

    from hypervisor.cli.table import print_table
    from hypervisor.vm.saved.telling import described

    print_table([(Text(name, "bold"), Text(text)) for name, text in described(path)])
    return 0
