"""The assembler's error."""

from __future__ import annotations

from hypervisor.errors import HypervisorError


class AssemblyError(HypervisorError):
    """A source that cannot be assembled. The message is a sentence; with a place it starts ``FILE:LINE: TEXT:``."""
