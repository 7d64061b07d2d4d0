"""For tests: the contract suites that every device and every plugin passes, and a pytest plugin."""

from hypervisor.testing.contract import check_device
from hypervisor.testing.plugin_contract import check_plugin

__all__ = ["check_device", "check_plugin"]
