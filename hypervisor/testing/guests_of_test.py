"""What the fixtures ``vm`` and ``host`` give: guests, and hosts for several of them, closed with their test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from hypervisor.testing.present_guests import Guest, PresentGuests

if TYPE_CHECKING:
    from hypervisor import VM, Host


class VmFactory:
    """Call it as `hypervisor.boot`, as often as the test needs guests."""

    def __init__(self, present: PresentGuests, item: pytest.Item) -> None:
        """``item`` is the test, whose markers ``guest`` say what is booted if a call does not."""
        self._present = present
        self._images, self._options = _marked(item, "guest")
        self._guests: list[Guest] = []

    def __call__(self, image: Any = None, **options: Any) -> VM:
        """A guest booted from ``image`` with the options of `hypervisor.boot`; it is closed when the test is over."""
        import hypervisor

        image = image if image is not None or not self._images else self._images[0]
        vm = hypervisor.boot(image, **{**self._options, **options})
        guest = Guest(str(image) if isinstance(image, str) else type(image).__name__, vm)
        self._guests.append(guest)
        self._present.add(guest)
        return vm

    def close(self) -> None:
        """Close every guest, last one first; then raise the first error, if any."""
        self._present.close(self._guests)


@contextmanager
def host_of_test(present: PresentGuests, item: pytest.Item) -> Iterator[Host]:
    """A host with the options of the test's markers ``host``. What is created on it is seen in the test's failure."""
    import hypervisor

    guests: list[Guest] = []
    host = hypervisor.Host(**_marked(item, "host")[1])
    create = host.create_vm

    def create_vm(*args: Any, **options: Any) -> VM:
        vm = create(*args, **options)
        guests.append(Guest(vm.name, vm))
        present.add(guests[-1])
        return vm

    host.create_vm = create_vm  # type: ignore[method-assign]  # of this host alone
    try:
        yield host
    finally:
        try:
            present.close(guests)
        finally:
            host.close()


def _marked(item: pytest.Item, name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a test's markers of this name: the nearest one's, and under its options those of the others."""
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = {}
    for marker in reversed([*item.iter_markers(name)]):
        args, options = marker.args or args, {**options, **marker.kwargs}
    return args, options


__all__ = ["VmFactory", "host_of_test"]
