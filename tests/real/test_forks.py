"""The short form of ``python -m tests.real.forks``."""

from __future__ import annotations

import hypervisor as hv
from tests.real.forks import MEMORY, run


def test_linux_forks_under_the_wall_clock_while_it_is_kicked() -> None:
    with hv.Host(MEMORY, 1) as host:
        assert run(host, forks=60, kick_s=0.0003) == ""
