"""Every error this package raises on purpose, as one tree.

::

    HypervisorError
    ├── ConfigError        a value or a combination of options that cannot work
    │   └── HostFull       the host has no memory left for what a VM stores
    ├── ImageError         a guest image that is unreadable, truncated or of no known format
    ├── TrapError          a handler that cannot be registered, or that broke its contract
    ├── PluginError        a plugin that cannot be found, configured or attached
    ├── DeviceError        a device that cannot be attached, or a device state that cannot be restored
    ├── PageLost           a page of a VM cannot be read from the swap file
    ├── GuestFault         the host asked for guest memory that the guest's page tables do not map
    ├── GuestCrashed       raised by ``RunResult.check()``, never by ``run()``
    ├── ExpectError        raised by ``expect()``: the guest did not write what was waited for
    ├── EngineError        the CPU emulator is missing or is not a build we know
    └── InternalError      a bug of ours: please report it

Messages are sentences: what is wrong, where, and what to do about it.
"""

from __future__ import annotations


class HypervisorError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(HypervisorError):
    """A value or a combination of options that cannot work."""


class HostFull(ConfigError):
    """The host has no memory left for what a VM stores: more was promised than there is (``overcommit``)."""


class PageLost(HypervisorError):
    """What a page of a VM holds lies in the host's swap file, on a disk that cannot read it."""


class ImageError(HypervisorError):
    """A guest image that is unreadable, truncated or of no known format."""


class TrapError(HypervisorError):
    """A trap handler that cannot be registered, or that broke its contract when it was called."""


class PluginError(HypervisorError):
    """A plugin that cannot be found, configured or attached."""


class DeviceError(HypervisorError):
    """A device that cannot be attached, or a device state that cannot be restored."""


class GuestFault(HypervisorError):
    """The host asked for guest memory that is not there, or that the guest's page tables do not map."""


class GuestCrashed(HypervisorError):
    """Raised by `RunResult.check` when a run did not end well; its text is the crash report."""


class ExpectError(HypervisorError):
    """Raised by ``expect``: the guest did not write what was waited for. The text says what it did write."""


class EngineError(HypervisorError):
    """The CPU emulator is missing, or is not a build whose state layout we know."""


class InternalError(HypervisorError):
    """A bug in this package. The message says what to report."""
