"""The ``hypervisor`` command with a fake VM, as a process of its own: ``fake_main.py SCRIPT [ARGUMENTS]...``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

    import hypervisor
    from hypervisor.cli import main
    from tests.cli.fakes import SCRIPTS, FakeVm

    hypervisor.boot = lambda config, moment: FakeVm(SCRIPTS[config.image])
    sys.exit(main(["run", *sys.argv[1:]]))
