"""The suite for devices finds what it is for, with a device as a user writes one and broken variants of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from hypervisor.bus import Device, Line
from hypervisor.bus.clock import ManualClock
from hypervisor.errors import DeviceError
from hypervisor.testing.contract import check_device


@dataclass
class DiceState:
    face: int = 1


class Dice:
    """A user's device, kept simple; the broken ones below differ in one point each."""

    name = "dice"

    def __init__(self) -> None:
        self._s = DiceState()

    def read(self, offset: int, size: int) -> int:
        self._s.face = self._s.face * 5 % 7
        return self._s.face

    def write(self, offset: int, size: int, value: int) -> None:
        self._s.face = value % 6 + 1

    def reset(self) -> None:
        self._s = DiceState()

    def state(self) -> DiceState:
        return DiceState(self._s.face)

    def restore(self, state: DiceState) -> None:
        if type(state) is not DiceState or not 1 <= state.face <= 6:
            raise DeviceError("dice: this is no state of a dice.")
        self._s = DiceState(state.face)


def test_a_users_device_passes() -> None:
    check_device(Dice, 4)


class Raises(Dice):
    def write(self, offset: int, size: int, value: int) -> None:
        raise KeyError(offset)


class TooWide(Dice):
    def read(self, offset: int, size: int) -> int:
        return 0x100


class NoReset(Dice):
    def reset(self) -> None:
        pass


class LiveState(Dice):
    def state(self) -> DiceState:
        return self._s


class TakesAll(Dice):
    def restore(self, state: DiceState) -> None:
        self._s = DiceState(getattr(state, "face", 1))


class Hidden(Dice):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def read(self, offset: int, size: int) -> int:
        self.count += 1
        return self.count & 1


@dataclass
class GrowingState(DiceState):
    log: bytes = b""


class Grows(Dice):
    def __init__(self) -> None:
        self._s: GrowingState = GrowingState()

    def write(self, offset: int, size: int, value: int) -> None:
        self._s.log += bytes(1000)

    def reset(self) -> None:
        self._s = GrowingState()

    def state(self) -> GrowingState:
        return GrowingState(self._s.face, self._s.log)

    def restore(self, state: DiceState) -> None:
        if type(state) is not GrowingState:
            raise DeviceError("dice: this is no state of a dice.")
        self._s = GrowingState(state.face, state.log)


class Insists(Dice):
    """It says that nothing has changed."""

    def is_still(self, state: DiceState) -> bool:
        return True


class Rings(Dice):
    """It has a line, which follows the face, and lets it go for a moment when a state is put back."""

    name = "rings"
    pulses = True

    def __init__(self, line: Line, clock: ManualClock) -> None:
        super().__init__()
        self.line = line
        self.timer = clock.timer(self.name, "roll", lambda: None)

    def read(self, offset: int, size: int) -> int:
        return self._s.face

    def write(self, offset: int, size: int, value: int) -> None:
        super().write(offset, size, value)
        self.line.set(self._s.face > 3)
        self.timer.set(10**9 * self._s.face)

    def reset(self) -> None:
        super().reset()
        self.line.set(False)
        self.timer.clear()

    def restore(self, state: DiceState) -> None:
        super().restore(state)
        if self.pulses:
            self.line.set(False)
            self.timer.set(10**9 * self._s.face)
        self.line.set(self._s.face > 3)


class Forgets(Rings):
    """It does not set its timer again."""

    pulses = False


@pytest.mark.parametrize(("broken", "sentence"), [(Rings, "changed a line"), (Forgets, "'roll'.*are set to")])
def test_the_suite_finds_a_device_that_is_restored_badly(broken: type[Rings], sentence: str) -> None:
    clock, changes = ManualClock(), list[bool]()

    def make() -> Device:
        return broken(Line("", changes.append), clock)

    with pytest.raises(AssertionError, match=sentence):
        check_device(make, 4, advance=clock.advance, outputs=lambda: len(changes), pending=lambda: clock.pending)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Raises, r"write\(offset=.*raised KeyError"),
        (TooWide, "not a number of 1 bytes"),
        (NoReset, r"after reset\(\)"),
        (LiveState, r"state\(\) must return a copy"),
        (TakesAll, "was accepted"),
        (Hidden, "something that matters is not in the state"),
        (Grows, "bound"),
        (Insists, r"is_still\(\) says something else"),
        (object, "has no method read"),
    ],
)
def test_the_suite_finds_a_broken_device(broken: Callable[[], Device], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_device(broken, 4)
