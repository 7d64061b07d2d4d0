"""Schedulers by their names, and what they promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypervisor.errors import ConfigError
from hypervisor.run.sharing.policies.credit import Credit
from hypervisor.run.sharing.policies.edf import Edf
from hypervisor.run.sharing.scheduler import Promising, RoundRobin, Scheduler
from hypervisor.run.sharing.share import Share
from hypervisor.spelling import hint

BY_NAME: dict[str, Callable[[], Scheduler]] = {"credit": Credit, "edf": Edf, "round-robin": RoundRobin}
DEFAULT = "round-robin"


def scheduler(wanted: str | Scheduler | None) -> Scheduler:
    """The one of this name, or this one; without one, what hosts have otherwise. Raises `ConfigError`."""
    if not isinstance(wanted, str | None):
        return wanted
    made = BY_NAME.get(wanted or DEFAULT)
    if made is None:
        raise ConfigError(
            f"scheduler={wanted!r}: there are {', '.join(BY_NAME)}, or give a scheduler.{hint(str(wanted), BY_NAME)}"
        )
    return made()


def check(scheduler: Scheduler, promised: Sequence[Share], share: Share, pcpus: int) -> None:
    """Raise `ConfigError` if a host with so many pCPUs and these promises cannot give this share to one VM more."""
    named = frozenset(share.pcpus or ())
    if share.pcpus is not None and max(named) >= pcpus:
        raise ConfigError(f"pcpus={sorted(named)}: the host has {pcpus}, with the numbers from 0 to {pcpus - 1}.")
    if not share.reserved:
        return
    if not isinstance(scheduler, Promising):
        raise ConfigError(
            f"A reservation (budget= and period=) is kept by the scheduler 'edf'; this host has "
            f"{type(scheduler).__name__}, which keeps none."
        )
    scheduler.admit(promised, share, pcpus)


__all__ = ["BY_NAME", "DEFAULT", "check", "scheduler"]
