"""``hypervisor guests``: what ``hypervisor run NAME`` can boot without a file."""

from __future__ import annotations


def list_guests() -> int:
    """Print the shipped guests, the simplest first; returns the exit status."""
    from rich.text import Text

    from hypervisor import guests
    from hypervisor.cli.table import print_table

    print_table([(Text(name, "bold"), Text(text)) for name, text in guests.descriptions().items()])
    return 0
