"""``vm.screen``: what the display adapter shows, as text, as pixels, and as something to wait for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from hypervisor.console import png
from hypervisor.console.expecting import EXPECT_S, Match, Wait, compiled, exact, expect, shown
from hypervisor.devices.vga import Mode, Vga, mode_geometry, palette
from hypervisor.devices.vga import text_mode as characters
from hypervisor.errors import ConfigError
from hypervisor.state import record, text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hypervisor.run.machine import Machine


MAX_CELLS = 1 << 16
"""Characters of the widest text mode's screen, and more."""


@record
class ScreenState:
    """What the screen showed when waits for text ended: for this screen alone, and for any source."""

    expected: str = text(MAX_CELLS)
    seen: str = text(MAX_CELLS)


class Screen:
    """The screen of a VM. It may be asked at any time, also from another thread while the guest draws.

    Everything raises `ConfigError` once the VM is closed.
    """

    name = "the screen"

    def __init__(self, vm: Machine, vga: Vga) -> None:
        self._vm = vm
        self._adapter = vga
        self._expected = ""
        self._seen = ""

    @property
    def vga(self) -> Vga:
        """The adapter behind it."""
        if self._vm.closed:
            raise ConfigError(f"The VM {self._vm.name} is closed, and its screen is gone; look at it before.")
        return self._adapter

    @property
    def text(self) -> str:
        """The rows of a text mode, joined by newlines, without blanks at their ends; empty in a graphics mode.

        Characters are those of code page 437, whatever font the guest has loaded.
        """
        return characters.text(self.vga)

    @property
    def rows(self) -> list[characters.Row]:
        """The rows of a text mode with their attributes; none in a graphics mode."""
        return characters.rows(self.vga)

    @property
    def colours(self) -> list[tuple[int, int]]:
        """For each text attribute its colour and background, as numbers of the 16 colours of the palette."""
        vga = self.vga
        return [palette.text_colours(vga, attribute) for attribute in range(256)]

    @property
    def mode(self) -> Mode:
        """What is shown; ``str(vm.screen.mode)`` is ``text 80x25`` or ``320x200x8`` (width, height, bits a pixel)."""
        return mode_geometry.mode(self.vga)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels. Pixels that the adapter shows twice, as in mode 13h, count once."""
        mode = self.mode
        return mode.width, mode.height

    @property
    def cursor(self) -> tuple[int, int] | None:
        """Row and column of the text cursor, from 0; None while none is shown."""
        return characters.cursor(self.vga)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The picture: height by width by 3 (red, green, blue), 8 bits each. Text is drawn with the guest's font."""
        from hypervisor.devices.vga.render import pixels

        return pixels(self.vga)

    def png(self) -> bytes:
        """`pixels` as a PNG file."""
        picture = self.pixels
        return png.encode(picture.shape[1], picture.shape[0], picture.tobytes())

    # ---- state

    def state(self) -> ScreenState:
        """What it remembers; what it shows is the adapter's memory."""
        return ScreenState(self._expected, self._seen)

    def restore(self, state: ScreenState) -> None:
        """Go on from ``state``."""
        self._expected, self._seen = state.expected, state.seen

    # ---- waiting

    def wait_for_text(
        self, wanted: str, timeout: float | None = EXPECT_S, virtual_timeout: float | None = None
    ) -> Match:
        """Run the VM until ``wanted`` is on the screen, and return at once if it is there already.

        ``timeout`` is in host seconds, ``virtual_timeout`` in guest seconds. Raises `ExpectError`, with the screen,
        when time is up or the run ends otherwise.
        """
        wait = ScreenWait(self, exact(wanted), lambda: "")
        return expect(self._vm, [self], wait, timeout, virtual_timeout)

    def expect(
        self, regex: str | re.Pattern[str], timeout: float | None = EXPECT_S, virtual_timeout: float | None = None
    ) -> Match:
        """Run the VM until text that matches ``regex`` comes on the screen that was not there at the last match."""
        return expect(self._vm, [self], self.matches(regex), timeout, virtual_timeout)

    def contains(self, wanted: str) -> Wait:
        """For ``until=``: ``wanted`` comes on the screen, after what was waited for here before."""
        return self.waiting_for(exact(wanted), named=True)

    def matches(self, regex: str | re.Pattern[str]) -> Wait:
        """For ``until=``: text that matches ``regex`` comes on the screen, after what was waited for here before."""
        return self.waiting_for(compiled(regex), named=True)

    def waiting_for(self, pattern: re.Pattern[str], *, named: bool) -> Wait:
        """See `hypervisor.console.expecting.Source`."""
        return ScreenWait(self, pattern, lambda: self._expected if named else self._seen)

    def catch_up(self) -> None:
        """See `hypervisor.console.expecting.Source`."""
        self._seen = self._cells()

    def matched(self) -> None:
        """A wait ended on what is here now."""
        self._expected = self._seen = self._cells()

    def find(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        """Where ``pattern`` is on the screen, from the top."""
        return _find(pattern, self._cells())

    def _cells(self) -> str:
        return "\n".join(row.text for row in self.rows)


class ScreenWait(Wait):
    """Text on the screen that was not in ``old()``, an earlier state of it.

    A screen has no order of time: of several matches, as many count as old as that had, those at the top. The
    screen is memory, so it is looked at when Python looks in: every 20 ms of the guest's time, and at timers.
    """

    def __init__(self, screen: Screen, pattern: re.Pattern[str], old: Callable[[], str]) -> None:
        self._screen, self._pattern, self._before = screen, pattern, old
        self.went_back()
        self.text = f"{screen.name} shows {shown(pattern)!r}"

    def went_back(self) -> None:
        """See `Condition`."""
        self._old = len(_find(self._pattern, self._before()))
        self._looked_at: object = None

    def holds(self) -> bool:
        """Whether it is there."""
        now = characters.fingerprint(self._screen.vga)
        if now == self._looked_at:
            return False
        self._looked_at = now
        matches = self._screen.find(self._pattern)
        if len(matches) <= self._old:
            self._old = len(matches)  # what has gone and comes again is new
            return False
        match = matches[self._old]
        before = matches[self._old - 1].end() if self._old else 0
        self.found = Match(self._screen.name, match.string[before : match.start()], match)
        self._screen.matched()
        return True


def _find(pattern: re.Pattern[str], cells: str) -> list[re.Match[str]]:
    """Matches in all the cells of a screen, where a prompt has the blank that it ends in, or in its text, where rows
    end with their last character: in what has more of them.
    """
    text = "\n".join(row.rstrip() for row in cells.split("\n"))
    return max(list(pattern.finditer(text)), list(pattern.finditer(cells)), key=len)
