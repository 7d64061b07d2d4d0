"""What devices do with their states, which are records (`hypervisor.state`)."""

from __future__ import annotations

from typing import Any, TypeVar

from hypervisor.errors import DeviceError
from hypervisor.state import InRecord, copied, record, wrong

T = TypeVar("T")


@record
class NoState:
    """The state of a device that remembers nothing."""


class Stateless(InRecord[NoState]):
    """A device that remembers nothing: its part of the contract that is about memory."""

    name: str

    def reset(self) -> None:
        """Nothing to do."""

    def state(self) -> NoState:
        """An empty state."""
        return NoState()

    def is_still(self, state: Any) -> bool:
        """See `hypervisor.state.InRecord`."""
        return isinstance(state, NoState)

    def restore(self, state: NoState) -> None:
        """Raises `DeviceError` if ``state`` is not one of such a device."""
        adopt(self.name, NoState, state)


def adopt(name: str, kind: type[T], state: Any) -> T:
    """A copy of ``state`` for device ``name`` to live in; raises `DeviceError` if a type or a range is wrong.

    A state may come from anywhere, so each is looked at, but for those that `hypervisor.state.trusted` is about.
    """
    problem = wrong(kind, state)
    if problem:
        raise refuse(name, problem)
    checked: T = state
    return copied(checked)


def refuse(name: str, what: str) -> DeviceError:
    """The error for a state whose fields are each in range but do not fit together."""
    return DeviceError(f"{name}: this state cannot be restored: {what}. Use what state() of the same device returned.")
