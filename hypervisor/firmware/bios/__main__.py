"""``python -m hypervisor.firmware.bios`` prints the table of docs/bios.md."""

from __future__ import annotations

from hypervisor.firmware.bios.bios import PROVIDERS
from hypervisor.firmware.bios.service import markdown, rows

print(markdown(rows(PROVIDERS)), end="")
