"""Interrupt lines: one wire between a device and whatever listens at its other end."""

from __future__ import annotations

from collections.abc import Callable


class Line:
    """A wire with a level. Devices drive it; an interrupt controller (or a test) listens.

    The listener is called at each change of level only, with the new level. There is one, unless the board forks the
    wire.
    """

    __slots__ = ("_level", "_listener", "_others", "name")

    def __init__(self, name: str = "", listener: Callable[[bool], None] | None = None) -> None:
        self.name = name
        self._level = False
        self._listener = listener
        self._others: tuple[Callable[[bool], None], ...] = ()
        """Who else hears it, behind that one."""

    @property
    def level(self) -> bool:
        """The wire's present level."""
        return self._level

    def connect(self, listener: Callable[[bool], None]) -> None:
        """Make ``listener`` the other end; a line has one, and it is told the present level if that is high."""
        self._listener = listener
        if self._level:
            listener(True)

    def fork(self, listener: Callable[[bool], None]) -> None:
        """Let ``listener`` hear the wire, too: it is told after the end that there was."""
        if self._listener is None:
            self.connect(listener)
            return
        self._others += (listener,)
        if self._level:
            listener(True)

    def set(self, level: bool) -> None:
        """Drive the wire to ``level``."""
        if level is not self._level:
            self._level = level
            if self._listener is not None:
                self._listener(level)
                for listener in self._others:
                    listener(level)

    def take(self, level: bool) -> None:
        """The wire has this level, as both of its ends know from elsewhere: nobody is told."""
        self._level = level

    def raise_(self) -> None:
        """Drive the wire high."""
        self.set(True)

    def lower(self) -> None:
        """Drive the wire low."""
        self.set(False)

    def pulse(self) -> None:
        """Low, high, low: one edge, for an edge-triggered input."""
        self.set(False)
        self.set(True)
        self.set(False)


class SharedLine:
    """A wire that several devices drive, each through its own `tap`: it is high while one of them is.

    An edge-triggered input sees one edge for requests that overlap, so drivers of shared interrupts ask every device.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._taps: list[Line] = []

    def tap(self) -> Line:
        """A line for one more device."""
        tap = Line(self._line.name, lambda level: self._line.set(any(one.level for one in self._taps)))
        self._taps.append(tap)
        return tap


class SwitchedLine:
    """A wire that one of two devices drives, ``first`` or ``second``, as `select` says."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._second_drives = False
        self.first, self.second = (Line(line.name, self._changed) for _ in range(2))

    def select(self, second: bool) -> None:
        """Let ``second`` drive the wire, or ``first``; it takes the level that this one has now."""
        self._second_drives = second
        self._changed(False)

    def _changed(self, _level: bool) -> None:
        self._line.set((self.second if self._second_drives else self.first).level)
