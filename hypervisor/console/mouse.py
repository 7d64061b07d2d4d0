"""``vm.mouse``: a mouse that a person moves, at the keyboard controller's auxiliary port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.console.pacing import Paced
from hypervisor.errors import ConfigError
from hypervisor.state import number, record

if TYPE_CHECKING:
    from hypervisor.devices.i8042 import I8042
    from hypervisor.run.machine import Machine

BUTTONS = {"left": 1, "right": 2, "middle": 4, "side": 8, "extra": 16}
STEP_S = 0.01
"""Seconds of the VM's time between two things that the mouse does: its sample rate after a reset."""
MAX_MOVE = 1 << 19


@record
class MouseHandState:
    """The buttons that a hand holds, as bits."""

    held: int = number(0, sum(BUTTONS.values()))


class Mouse:
    """A PS/2 mouse with a wheel and five buttons. Every method may be called from any thread.

    What it does waits for a guest that has not enabled its mouse.
    """

    def __init__(self, vm: Machine, controller: I8042) -> None:
        self._controller = controller
        self.paced = Paced(vm, "mouse", lambda: controller.mouse_idle, lambda moved: controller.move_mouse(*moved))
        """What it did that waits."""
        self._held = 0

    def move(self, dx: int, dy: int, wheel: int = 0) -> None:
        """Move by ``dx`` counts to the right and ``dy`` down, and turn the wheel ``wheel`` steps towards the user."""
        if not all(isinstance(value, int) and abs(value) <= MAX_MOVE for value in (dx, dy, wheel)):
            raise ConfigError(f"move({dx!r}, {dy!r}, {wheel!r}): give whole numbers from {-MAX_MOVE} to {MAX_MOVE}.")
        self._send(dx, dy, wheel)

    def down(self, button: str = "left") -> None:
        """Press ``button`` ("left", "right", "middle", "side" or "extra"), until `up`."""
        self._held |= _bit(button)
        self._send(0, 0, 0)

    def up(self, button: str = "left") -> None:
        """Release ``button``."""
        self._held &= ~_bit(button)
        self._send(0, 0, 0)

    def click(self, button: str = "left") -> None:
        """Press ``button`` and release it."""
        self.down(button)
        self.up(button)

    @property
    def pending(self) -> int:
        """What the mouse did and the guest has not been given yet."""
        return self.paced.pending

    def taken(self) -> None:
        """The guest has read what there was."""
        self.paced.go()

    def state(self) -> MouseHandState:
        """The buttons that are held."""
        return MouseHandState(self._held)

    def restore(self, state: MouseHandState) -> None:
        """Hold these buttons; the guest knows it already."""
        self._held = state.held

    def _send(self, dx: int, dy: int, wheel: int) -> None:
        self.paced.add((dx, dy, wheel, self._held), STEP_S)


def _bit(button: str) -> int:
    if button not in BUTTONS:
        raise ConfigError(f"There is no mouse button {button!r}; there are {', '.join(BUTTONS)}.")
    return BUTTONS[button]
