"""``python -m hypervisor.cli.qemu`` is ``hypervisor-qemu``."""

import sys

from hypervisor.cli.qemu.start import main

sys.exit(main())
