"""The die on its own, and in a guest's hands."""

from __future__ import annotations

from pathlib import Path

import pytest
from my_plugin import DiceDevice, MyPlugin

from hypervisor.errors import DeviceError, PluginError
from hypervisor.testing import check_device, check_plugin

# 32-bit code: mov dx, 300h; in al, dx; hlt
ROLL_ONCE = bytes.fromhex("66ba0003 ec f4")
# mov eax, 40000100h; cpuid; hlt
ASK_CPUID = bytes.fromhex("b800010040 0fa2 f4")


def flat(path: Path, code: bytes) -> dict[str, object]:
    """A guest that is these bytes and nothing else: the arguments for ``vm(...)``."""
    path.write_bytes(code)
    return {"image": str(path), "format": "flat", "at": 0x1000, "entry": 0x1000, "mode": 32, "memory": "1M"}


def test_the_device_keeps_the_contract() -> None:
    check_device(lambda: DiceDevice(seed=7), size=2)


def test_the_plugin_keeps_the_contract() -> None:
    check_plugin((MyPlugin, {"sides": 20}))


def test_rolls_stay_within_the_sides_and_repeat_after_a_reset() -> None:
    die = DiceDevice(sides=6, seed=7)
    first = [die.read(0, 1) for _ in range(100)]
    assert set(first) == {1, 2, 3, 4, 5, 6}
    die.write(1, 1, 20)
    assert die.read(1, 1) == 20 and max(die.read(0, 1) for _ in range(200)) == 20
    die.reset()
    assert [die.read(0, 1) for _ in range(100)] == first


def test_a_state_that_is_not_ours_is_refused() -> None:
    with pytest.raises(DeviceError, match="must be a DiceState"):
        DiceDevice().restore("six")  # type: ignore[arg-type]


def test_a_guest_rolls_the_die(vm, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    guest = vm(**flat(tmp_path / "roll", ROLL_ONCE), plugins=["my-plugin,sides=6"])
    assert guest.run(timeout=10).reason.value == "halted"
    assert 1 <= guest.vcpu.al <= 6


def test_the_seed_decides_the_game(vm, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rolls = []
    for seed in (1, 1, 2, 3, 4):
        guest = vm(**flat(tmp_path / "roll", ROLL_ONCE), plugins=[MyPlugin(sides=255)], seed=seed)
        guest.run(timeout=10)
        rolls.append(guest.vcpu.al)
    assert rolls[0] == rolls[1] and len(set(rolls)) > 1


def test_a_guest_finds_the_die_through_cpuid(vm, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    guest = vm(**flat(tmp_path / "ask", ASK_CPUID), plugins=["my-plugin,port=0x310"])
    guest.run(timeout=10)
    words = [guest.vcpu.ebx, guest.vcpu.ecx, guest.vcpu.edx]
    assert b"".join(word.to_bytes(4, "little") for word in words) == b"RollTheDice!"
    assert guest.vcpu.eax == 0x310


def test_options_are_checked(vm, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PluginError, match=r"Plugin my-plugin has no option 'side'\. Did you mean sides\?"):
        vm(**flat(tmp_path / "roll", ROLL_ONCE), plugins=["my-plugin,side=6"])
    with pytest.raises(PluginError, match="Plugin my-plugin could not be constructed: a die with 300 sides"):
        vm(**flat(tmp_path / "roll", ROLL_ONCE), plugins=["my-plugin,sides=300"])
