"""The suite that every device passes, ours and a user's: `check_device`. It needs no engine and no board."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from hypervisor.bus import Device, Timer
from hypervisor.errors import DeviceError

SIZES = (1, 2, 4, 8)
"""Access sizes in bytes."""
STATE_LIMIT = 1 << 20
"""Bytes that a state may have; more than this is growth, not memory of a device."""
TWINS = 8
"""How often a device's state is put into a twin."""
GROWTH_LIMIT = 256 << 10
"""Bytes by which the second half of the accesses may make a state larger than the first half left it."""


def check_device(
    factory: Callable[[], Device],
    size: int,
    seed: int = 0,
    operations: int = 2000,
    *,
    advance: Callable[[int], object] | None = None,
    outputs: Callable[[], int] = lambda: 0,
    pending: Callable[[], Iterable[Timer]] = tuple,
) -> None:
    """Raise AssertionError, with a sentence, if devices from ``factory`` break the contract of `hypervisor.bus.Device`.

    ``size`` is the device's register window in bytes. ``seed`` and ``operations`` choose the random accesses: all
    sizes at all offsets, then at random, and the last few bytes of the window also with accesses that reach beyond
    it. ``advance(ns)``, if given, turns the clock that the devices of ``factory`` share (a
    `hypervisor.bus.clock.ManualClock`, say), and is called now and then between accesses. ``outputs()`` is how often
    devices of ``factory`` have changed a line or put something out so far, ``pending()`` their timers that are set
    (`hypervisor.bus.clock.ManualClock.pending`).

    Checked: nothing raises; what is read fits the access size; a state is a copy that stays what it was; a reset
    equals a new device; a restored twin answers exactly as the original does, and its timers are set to the same
    times; restoring what is there already changes no line and puts nothing out; a state does not grow without bound;
    what is not a state of this device is refused with `DeviceError`, and the refusal changes nothing.
    """
    rng = random.Random(seed)
    device = factory()
    for member in ("read", "write", "reset", "state", "restore"):
        there = callable(getattr(device, member, None))
        assert there, f"{device!r} has no method {member}(); see hypervisor.bus.Device."
    name = getattr(device, "name", None)
    assert isinstance(name, str) and name, f"{device!r} has no name; give it a short one, such as 'dice0'."
    others = _Others(factory, pending)
    _check_fresh(others.make, name)
    for access in (1, 2, 4, 8):
        for offset in range(size):
            _write(device, name, offset, access, rng.getrandbits(8 * access))
            _read(device, name, offset, access)
    _check_copy(device, name, size, rng)
    _check_reset(device, others.make, name)
    _check_refusals(device, name)
    half = _walk(device, name, size, rng, operations // 2, advance)
    twin = factory()
    for _ in range(TWINS):
        _check_quiet(device, name, outputs)
        twin.restore(copy.deepcopy(device.state()))
        _assert_equal(twin.state(), device.state(), f"{name}: right after restore()")
        _check_timers(name, others.left_out)
        for _ in range(max(operations // 2 // TWINS, 10)):
            _step(rng, size, advance, [device, twin], name)
            if rng.random() < 0.1:
                _check_timers(name, others.left_out)
        _assert_equal(twin.state(), device.state(), f"{name}: after the same accesses")
        for _ in range(30):  # the next state is put where another one has been
            _write(twin, name, rng.randrange(size), rng.choice(SIZES), rng.getrandbits(8))
    twin.reset()  # so that its timers are gone
    end = _bounded_weight(device, name)
    assert end <= half + GROWTH_LIMIT, (
        f"{name}: its state grew from {half} to {end} bytes under random accesses; bound what a guest can fill."
    )
    _check_reset(device, others.make, name)


class _Others:
    """Devices that are made to be looked at, and whose timers are not those of a device and its twin."""

    def __init__(self, factory: Callable[[], Device], pending: Callable[[], Iterable[Timer]]) -> None:
        self._factory, self._pending = factory, pending
        self._theirs: set[Timer] = set()

    def make(self) -> Device:
        """One more."""
        before = set(self._pending())
        made = self._factory()
        self._theirs |= set(self._pending()) - before
        return made

    def left_out(self) -> list[Timer]:
        """The timers that are set, without theirs."""
        return [timer for timer in self._pending() if timer not in self._theirs]


def _walk(
    device: Device, name: str, size: int, rng: random.Random, operations: int, advance: Callable[[int], object] | None
) -> int:
    for _ in range(operations):
        _step(rng, size, advance, [device], name)
    return _bounded_weight(device, name)


def _step(
    rng: random.Random, size: int, advance: Callable[[int], object] | None, devices: list[Device], name: str
) -> None:
    """One random operation on each of ``devices``, which must answer alike."""
    kind = rng.random()
    if advance is not None and kind < 0.05:
        advance(rng.choice((1, 100, 1_000, 100_000, 5_000_000)))
        return
    offset, access = rng.randrange(size), rng.choice(SIZES)
    if kind < 0.5:
        answers = [_read(device, name, offset, access) for device in devices]
        assert len(set(answers)) == 1, (
            f"{name}: after restore(state()) a twin reads {answers[-1]:#x} at offset {offset:#x} (size {access}), "
            f"where the original reads {answers[0]:#x}; something that matters is not in the state."
        )
    else:
        value = rng.choice((0, (1 << 8 * access) - 1, 1 << rng.randrange(8 * access), rng.getrandbits(8 * access)))
        for device in devices:
            _write(device, name, offset, access, value)


def _read(device: Device, name: str, offset: int, access: int) -> int:
    try:
        value = device.read(offset, access)
    except Exception as error:
        raise AssertionError(
            f"{name}: read(offset={offset:#x}, size={access}) raised {error!r}; "
            "a device answers whatever a guest reads."
        ) from error
    assert type(value) is int and 0 <= value < 1 << 8 * access, (
        f"{name}: read(offset={offset:#x}, size={access}) returned {value!r}, which is not a number of {access} bytes."
    )
    return value


def _write(device: Device, name: str, offset: int, access: int, value: int) -> None:
    try:
        device.write(offset, access, value)
    except Exception as error:
        raise AssertionError(
            f"{name}: write(offset={offset:#x}, size={access}, value={value:#x}) raised {error!r}; "
            "a device bears whatever a guest writes."
        ) from error


def _bounded_weight(device: Device, name: str) -> int:
    weight = _weight(device.state(), name)
    assert weight <= STATE_LIMIT, f"{name}: its state takes {weight} bytes, more than {STATE_LIMIT}; bound it."
    return weight


def _check_fresh(factory: Callable[[], Device], name: str) -> None:
    one, other = factory(), factory()
    assert one is not other, f"{name}: the factory returned the same device twice; make a new one each time."
    same = one.state() == other.state()
    assert same, (
        f"{name}: two new devices differ in their states; nothing random and nothing of the host belongs there."
    )


def _check_copy(device: Device, name: str, size: int, rng: random.Random) -> None:
    state = device.state()
    before = copy.deepcopy(state)
    for _ in range(200):
        _write(device, name, rng.randrange(size), 1, rng.getrandbits(8))
        _check_still(device, name, state)
    assert state == before, f"{name}: a state changed while the device went on; state() must return a copy."
    device.restore(state)
    _check_still(device, name, state)
    for _ in range(200):
        _write(device, name, rng.randrange(size), 1, rng.getrandbits(8))
    assert state == before, f"{name}: the device writes into the state that it restored; restore() must take a copy."


def _check_still(device: Device, name: str, state: Any) -> None:
    """A device that tells whether it is still what a state says is right about it."""
    is_still = getattr(device, "is_still", None)
    if is_still is not None:
        now = device.state()
        assert is_still(now) and is_still(state) is (now == state), (
            f"{name}: is_still() says something else than a comparison with state(), which is {now!r}."
        )


def _check_reset(device: Device, factory: Callable[[], Device], name: str) -> None:
    device.reset()
    now, new = device.state(), factory().state()
    assert now == new, f"{name}: after reset() the state is {now!r}, but that of a new device is {new!r}."


class _Foreign:
    """A state of nothing."""


def _check_refusals(device: Device, name: str) -> None:
    before = device.state()
    wrong: Any
    for wrong in (None, 17, "state", {}, _Foreign()):
        try:
            device.restore(wrong)
        except DeviceError:
            assert device.state() == before, f"{name}: restore({wrong!r}) was refused, but it changed the device."
        except Exception as error:
            raise AssertionError(f"{name}: restore({wrong!r}) raised {error!r} instead of DeviceError.") from error
        else:
            raise AssertionError(f"{name}: restore({wrong!r}) was accepted; raise DeviceError for what is not a state.")


def _check_quiet(device: Device, name: str, outputs: Callable[[], int]) -> None:
    """Restoring what is there already is not heard."""
    before, state = outputs(), device.state()
    device.restore(state)
    heard = outputs() - before
    assert not heard, (
        f"{name}: restore() of the state that it has anyway changed a line, or put something out, {heard} times; "
        "drive lines to what the state says, without changes on the way, and put nothing out."
    )
    _assert_equal(device.state(), state, f"{name}: after restore(state()) of itself")


def _check_timers(name: str, pending: Callable[[], Iterable[Timer]]) -> None:
    """Both twins have set the same timers to the same times."""
    deadlines: dict[str, list[int | None]] = {}
    for timer in pending():
        deadlines.setdefault(timer.name, []).append(timer.deadline_ns)
    for timer_name, times in deadlines.items():
        assert len(times) == 2 and times[0] == times[1], (
            f"{name}: its timer {timer_name!r} and that of its restored twin are set to {times}; a timer's deadline is "
            "part of the state."
        )


def _assert_equal(twin: Any, original: Any, when: str) -> None:
    assert twin == original, f"{when}, the twin's state {twin!r} is not the original's {original!r}."


def _weight(value: Any, name: str, path: str = "state") -> int:
    """How large a state is, in bytes: roughly what it would take in a file."""
    if value is None or isinstance(value, bool | int | float):
        return 8
    if isinstance(value, str | bytes | bytearray):
        return 8 + len(value)
    if is_dataclass(value) and not isinstance(value, type):
        return sum(_weight(getattr(value, one.name), name, f"{path}.{one.name}") for one in fields(value))
    if isinstance(value, dict):
        return sum(_weight(key, name, path) + _weight(item, name, f"{path}[{key!r}]") for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return 8 + sum(_weight(item, name, f"{path}[]") for item in value)
    raise AssertionError(
        f"{name}: {path} is of type {type(value).__name__}; a state is a dataclass of plain values "
        "(numbers, text, bytes, and lists, tuples or dicts of them)."
    )
