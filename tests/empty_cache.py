"""A process that has no compiled kernels but those of its package."""

from __future__ import annotations

from pathlib import Path


def empty_cache(place: Path) -> dict[str, str]:
    """Environment: every folder that `hypervisor.engine.compiling.cache` looks in is below ``place``."""
    return dict.fromkeys(("HYPERVISOR_CACHE", "XDG_CACHE_HOME", "HOME", "TMPDIR"), str(place))
