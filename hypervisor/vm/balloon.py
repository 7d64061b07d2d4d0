"""A balloon: a guest that knows of it gives memory back to its host, by three hypercalls (docs/sharing.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.errors import ConfigError
from hypervisor.run.observing.host_events import What
from hypervisor.state import number, record
from hypervisor.traps.verdicts import HANDLED, Verdict
from hypervisor.units import PAGE_MASK, PAGE_SHIFT

if TYPE_CHECKING:
    from hypervisor.vcpu.exit import Exit
    from hypervisor.vcpu.processor import Processor
    from hypervisor.vm.furnished import Furnished

WANTED, GIVE, USE = 0x42414C00, 0x42414C01, 0x42414C02
"""What RAX holds: the guest asks how many pages the host wants; it does not need RCX pages from RBX on; it uses RCX
pages again that it had given. RAX is how many are wanted, have been taken, or are counted as given no longer.
"""
MOST = 512
"""Pages that one hypercall gives: the host's time for it is bounded."""
MAX_WANTED = 1 << 24
BY_HAND, BY_HOST = "balloon", "balloon of the host"
"""What the two who ask are called in a machine's inbox."""
SHORT, RELIEVED = "{} pages for its host, which has little memory left", "for nothing any more by its host"


@record
class BalloonState:
    """``wanted`` is how many pages somebody wants by hand, ``asked`` how many the host has asked for beside that,
    ``given`` how many the guest has given so far, and ``held`` those of them that it has not said it uses again.
    """

    wanted: int = number(0, MAX_WANTED)
    given: int = number(0, 1 << 62)
    asked: int = number(0, MAX_WANTED)
    held: int = number(0, MAX_WANTED)


class Balloon:
    """A plugin: ``plugins=[hv.Balloon]``, or ``[(hv.Balloon, {"wanted": 100})]``.

    Pages that the guest gives read as zeros, and take no memory until it stores to them. A host that has little memory
    left asks by itself the guests that have asked at least once what it wants, for at most ``most`` pages: 0 is a
    guest that is never asked, so it computes the same whatever its neighbours do.
    """

    def __init__(self, wanted: int = 0, most: int = MAX_WANTED) -> None:
        self.s = BalloonState(_checked(wanted))
        self._most = _checked(most)
        self._coming: int | None = None
        """What the host asks for, while that waits in the inbox."""

    def attach(self, vm: Furnished) -> None:
        """Answer this machine's hypercalls."""
        self._vm = vm
        vm.traps.hypercall(self._ask, number=WANTED, name="balloon: wanted")
        vm.traps.hypercall(self._take, number=GIVE, name="balloon: give")
        vm.traps.hypercall(self._let_use, number=USE, name="balloon: use")
        vm.inbox.connect(BY_HAND, self._wanted_by_hand)
        vm.inbox.connect(BY_HOST, self._wanted_by_host)

    def want(self, pages: int) -> None:
        """Have the guest asked to give so many pages in all. From any thread; the guest hears of it when it asks: like
        whatever else comes from outside, at a time that a recording repeats.
        """
        self._vm.inbox.put(BY_HAND, _content(_checked(pages)))

    @property
    def given(self) -> int:
        """Pages that the guest has given so far."""
        return self.s.given

    @property
    def held(self) -> int:
        """Those of them that it does not use again, as far as it has said so."""
        return self.s.held

    @property
    def wanted(self) -> int:
        """Pages that the guest is asked for, in all."""
        return min(self.s.wanted + self.s.asked, MAX_WANTED)

    # --- what the host asks for by itself (`hypervisor.memory.balloons.Giver`) ----------------------------------------

    @property
    def listens(self) -> bool:
        """Whether it runs, and may be asked. A run that repeats a recording hears what that one heard."""
        vm = self._vm
        run = vm.runner
        return self._most > 0 and run is not None and not run.stands_still and not vm.inbox.repeats

    @property
    def spare(self) -> int:
        """Frames that it alone has beyond what it was promised for sure; no more than it may still be asked for."""
        pages = self._vm.memory.pages
        return min(pages.alone - pages.kept >> PAGE_SHIFT, self._most - self.lent)

    @property
    def lent(self) -> int:
        """Pages that it holds for the host, beyond what is wanted by hand."""
        return max(self.s.held - self.s.wanted, 0)

    @property
    def asked(self) -> int:
        """Pages that the host has asked for last."""
        coming = self._coming
        return self.s.asked if coming is None else coming

    def ask(self, pages: int) -> bool:
        """Have the host ask for so many, beside what is wanted by hand; False while something else that it has asked
        for waits. From any thread, one at a time.
        """
        before, pages = self.asked, min(max(pages, 0), self._most)
        if pages == before:
            return True
        if self._coming is not None:
            return False
        self._coming = pages
        self._vm.inbox.put(BY_HOST, _content(pages))
        if not (before and pages):
            self._tell(SHORT.format(pages) if pages else RELIEVED)
        return True

    def _tell(self, text: str) -> None:
        self._vm.host.telling.tell(What.ASKED, self._vm.name, self._vm.clock.now_ns, message=text)

    # --- its state ----------------------------------------------------------------------------------------------------

    def state(self) -> BalloonState:
        """What is remembered of the machine."""
        s = self.s
        return BalloonState(s.wanted, s.given, s.asked, s.held)

    def restore(self, state: BalloonState) -> None:
        """Go on from ``state``."""
        self.s = BalloonState(state.wanted, state.given, state.asked, state.held)
        self._coming = None

    def _wanted_by_hand(self, content: bytes) -> None:
        self.s.wanted = _checked(int.from_bytes(content, "little"))

    def _wanted_by_host(self, content: bytes) -> None:
        self.s.asked, self._coming = _checked(int.from_bytes(content, "little")), None

    # --- hypercalls ---------------------------------------------------------------------------------------------------

    def _ask(self, vcpu: Processor, exit: Exit) -> Verdict:
        self._vm.host.memory.balloons.join(self)
        vcpu.rax = self.wanted
        return HANDLED

    def _take(self, vcpu: Processor, exit: Exit) -> Verdict:
        vcpu.rax = taken = self._cleared(vcpu.rbx, vcpu.rcx)
        self.s.given += taken
        self.s.held = min(self.s.held + taken, self._vm.memory.size >> PAGE_SHIFT)  # one may be given twice
        return HANDLED

    def _let_use(self, vcpu: Processor, exit: Exit) -> Verdict:
        vcpu.rax = used = min(vcpu.rcx, self.s.held) if self._ram(vcpu.rbx, vcpu.rcx) else 0
        self.s.held -= used
        return HANDLED

    def _cleared(self, gpa: int, count: int) -> int:
        """Pages of RAM that read as zeros from now on: all of them, or none where not all are RAM that shows there."""
        if not self._ram(gpa, count):
            return 0
        self._vm.memory.clear(gpa, count << PAGE_SHIFT)
        return count

    def _ram(self, gpa: int, count: int) -> bool:
        """Whether so many pages are RAM that shows there, and can be named in one hypercall."""
        size = count << PAGE_SHIFT
        if not 0 < count <= MOST or gpa & PAGE_MASK:
            return False
        regions = self._vm.memory.ram_within(gpa, size)
        return len(regions) == 1 and (regions[0].base, regions[0].size) == (gpa, size) and regions[0].writable


def _checked(pages: int) -> int:
    if not isinstance(pages, int) or not 0 <= pages <= MAX_WANTED:
        raise ConfigError(f"{pages!r}: a balloon wants 0 to {MAX_WANTED} pages.")
    return pages


def _content(pages: int) -> bytes:
    return pages.to_bytes(8, "little")


__all__ = ["GIVE", "USE", "WANTED", "Balloon"]
