"""A VM as one of those that share a host's processors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.run.sharing.share import Share
from hypervisor.run.sharing.usage import Usage

if TYPE_CHECKING:
    from hypervisor.run.host import CoreHost
    from hypervisor.run.sharing.placing import Place


class Sharer:
    """What it is to get, and what it has got."""

    host: CoreHost
    place: Place

    @property
    def share(self) -> Share:
        """What it is to get of the host's processors. It may be changed at any time, also while it runs: raises
        `ConfigError` for what the host cannot give.
        """
        return self.place.share

    @share.setter
    def share(self, share: Share) -> None:
        self.host.grant(self, share, lambda: setattr(self.place, "share", share))

    @property
    def usage(self) -> Usage:
        """Where the time of its runs has gone up to now."""
        return self.host.queue.usage(self.place)


__all__ = ["Sharer"]
