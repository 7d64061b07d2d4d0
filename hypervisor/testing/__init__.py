"""For tests: the contract suite that every device passes, and a pytest plugin."""

from hypervisor.testing.contract import check_device

__all__ = ["check_device"]
