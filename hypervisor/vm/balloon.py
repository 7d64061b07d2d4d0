"""A balloon: a guest that knows of it gives memory back to its host, by two hypercalls (docs/sharing.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError
from hypervisor.state import number, record
from hypervisor.traps.verdicts import HANDLED, Verdict
from hypervisor.units import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from hypervisor.vcpu.exit import Exit
    from hypervisor.vcpu.processor import Processor
    from hypervisor.vm.furnished import Furnished

WANTED, GIVE = 0x42414C00, 0x42414C01
"""What RAX holds: the guest asks how many pages the host wants; it does not need RCX pages from RBX on. RAX is how many
are wanted, or have been taken.
"""
MOST = 512
"""Pages that one hypercall gives: the host's time for it is bounded."""
MAX_WANTED = 1 << 24
MESSAGE = "balloon"


@record
class BalloonState:
    """``wanted`` is how many pages the host wants, ``given`` how many the guest has given so far."""

    wanted: int = number(0, MAX_WANTED)
    given: int = number(0, 1 << 62)


class Balloon:
    """A plugin: ``plugins=[hv.Balloon]``, or ``[(hv.Balloon, {"wanted": 100})]``.

    Pages that the guest gives read as zeros, and take no memory until it stores to them.
    """

    def __init__(self, wanted: int = 0) -> None:
        self.s = BalloonState(_checked(wanted))

    def attach(self, vm: Furnished) -> None:
        """Answer this machine's hypercalls."""
        self._vm = vm
        vm.traps.hypercall(self._ask, number=WANTED, name="balloon: wanted")
        vm.traps.hypercall(self._take, number=GIVE, name="balloon: give")
        vm.inbox.connect(MESSAGE, self._want)

    def want(self, pages: int) -> None:
        """Have the guest asked to give so many pages in all. From any thread; the guest hears of it when it asks: like
        whatever else comes from outside, at a time that a recording repeats.
        """
        self._vm.inbox.put(MESSAGE, _checked(pages).to_bytes(8, "little"))

    @property
    def given(self) -> int:
        """Pages that the guest has given so far."""
        return self.s.given

    def state(self) -> BalloonState:
        """What is remembered of the machine."""
        return BalloonState(self.s.wanted, self.s.given)

    def restore(self, state: BalloonState) -> None:
        """Go on from ``state``."""
        self.s = BalloonState(state.wanted, state.given)

    def _want(self, content: bytes) -> None:
        self.s.wanted = _checked(int.from_bytes(content, "little"))

    def _ask(self, vcpu: Processor, exit: Exit) -> Verdict:
        vcpu.rax = self.s.wanted
        return HANDLED

    def _take(self, vcpu: Processor, exit: Exit) -> Verdict:
        vcpu.rax = taken = self._cleared(vcpu.rbx, vcpu.rcx)
        self.s.given += taken
        return HANDLED

    def _cleared(self, gpa: int, count: int) -> int:
        """Pages of RAM that read as zeros from now on: all of them, or none where not all are RAM that shows there."""
        size = count << PAGE_SHIFT
        if not 0 < count <= MOST or gpa & PAGE_MASK:
            return 0
        regions = self._vm.memory.ram_within(gpa, size)
        if len(regions) != 1 or (regions[0].base, regions[0].size) != (gpa, size) or not regions[0].writable:
            return 0
        self._vm.memory.clear(gpa, size)
        return count


def _checked(pages: int) -> int:
    if not isinstance(pages, int) or not 0 <= pages <= MAX_WANTED:
        raise ConfigError(f"{pages!r}: a balloon wants 0 to {MAX_WANTED} pages.")
    return pages


__all__ = ["GIVE", "WANTED", "Balloon"]
