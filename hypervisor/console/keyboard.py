"""``vm.keyboard``: keys that a person presses, through the keyboard controller of the board."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypervisor.console.pacing import Paced
from hypervisor.devices.scan_codes import BREAK, codes, strokes
from hypervisor.errors import ConfigError

if TYPE_CHECKING:
    from hypervisor.devices.i8042 import I8042
    from hypervisor.run.machine import Machine

RATE = 50.0
"""Keys per second of the VM's time that `Keyboard.type` types unless it is told."""
GAP_S = 0.005
"""Seconds between the keys that `Keyboard.press` presses together."""
HOLD_S = 0.05
"""Seconds for which `Keyboard.press` holds them."""
MAX_HOLD_S = 60
"""Seconds of the longest `Keyboard.press`: each repetition is an event that waits in memory."""


class Keyboard:
    """A US keyboard with 102 keys. All times are of the VM's clock; every method may be called from any thread.

    What is typed waits for a guest that does not read its keyboard.
    """

    def __init__(self, vm: Machine, controller: I8042) -> None:
        self._controller = controller
        self.paced = Paced(
            vm, "keyboard", lambda: controller.keyboard_idle, lambda codes: controller.press(bytes(codes))
        )
        """The keys that wait."""

    def type(self, text: str, rate: float = RATE) -> None:
        """Type ``text`` at ``rate`` keys a second; a newline is Enter.

        Raises `ConfigError` for a character that is on no key, and types nothing then.
        """
        if not isinstance(rate, (int, float)) or not rate > 0:
            raise ConfigError(f"rate={rate!r}: give a number of keys per second greater than zero.")
        if not isinstance(text, str):
            raise ConfigError(f"type({text!r}): give a text.")
        for stroke in [_events(strokes(char)) for char in text]:
            for event in stroke:
                self._send(event, 1 / rate / len(stroke))

    def press(self, *keys: str, hold: float = HOLD_S) -> None:
        """Press ``keys`` one after the other, hold them for ``hold`` seconds, and release them in reverse order.

        A key is a character such as ``"a"`` or a name such as ``"ctrl"``, ``"f1"`` or ``"up"``. A last key that is held
        for longer than the keyboard's delay repeats, as the guest has set the keyboard. Raises `ConfigError` for a key
        that does not exist.
        """
        if not isinstance(hold, (int, float)) or not 0 <= hold <= MAX_HOLD_S:
            raise ConfigError(f"hold={hold!r}: give a number of seconds up to {MAX_HOLD_S}; see also down() and up().")
        pressed = [codes(key) for key in keys]
        for make, _ in pressed[:-1]:
            self._send(make, GAP_S)
        if pressed:
            delay_s, period_s = self._controller.typematic_s
            while hold > delay_s:
                self._send(pressed[-1][0], delay_s)
                hold, delay_s = hold - delay_s, period_s
            self._send(pressed[-1][0], hold)
        for _, release in reversed(pressed):
            self._send(release, GAP_S)

    def down(self, key: str) -> None:
        """Press ``key``, until `up`; it does not repeat."""
        self._send(codes(key)[0], GAP_S)

    def up(self, key: str) -> None:
        """Release ``key``."""
        self._send(codes(key)[1], GAP_S)

    @property
    def pending(self) -> int:
        """Presses and releases that the guest has not been given yet."""
        return self.paced.pending

    def taken(self) -> None:
        """The guest has read what there was."""
        self.paced.go()

    def _send(self, scancodes: bytes, then_s: float) -> None:
        if scancodes:
            self.paced.add(scancodes, then_s)


def _events(stroke: bytes) -> list[bytes]:
    """A stroke's presses and releases, each with its bytes."""
    events, at = [], 0
    while at < len(stroke):
        size = 2 if stroke[at] == BREAK else 1
        events.append(stroke[at : at + size])
        at += size
    return events
