"""``python -m hypervisor.cli.qemu`` is ``hypervisor-qemu``."""

import sys

from hypervisor.cli.qemu.qemu_main import main

sys.exit(main())
