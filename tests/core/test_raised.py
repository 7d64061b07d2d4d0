"""The text of a host error begins with whose code raised, and shows that code alone."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.devices.parts.device_state import Stateless
from tests.sectors import boot_sector

HALT = boot_sector("cli; hlt")


def helper() -> Any:
    try:
        return {}["nothing"]
    except KeyError as error:
        raise ValueError("on purpose") from error


class Audit:
    """A plugin whose handler raises."""

    def attach(self, vm: hv.VM) -> None:
        vm.traps.hlt(self.log)

    def log(self, vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        return helper()


class Dice(Stateless):
    name = "dice"

    def read(self, offset: int, size: int) -> int:
        return helper()

    def write(self, offset: int, size: int, value: int) -> None:
        helper()


def raising(*arguments: Any) -> Any:
    return helper()


def compiled(state, regs, first, second, value):  # type: ignore[no-untyped-def]
    return state[77]


def dice(vm: hv.VM) -> None:
    vm.attach(Dice(), ports=range(0x300, 0x301), mmio=range(0xD0000000, 0xD0001000))


def late(vm: hv.VM) -> None:
    vm.clock.call_at(vm.clock.now_ns, raising)


CASES: dict[str, tuple[str, Callable[[hv.VM], object], str]] = {
    "handler": ("vmmcall", lambda vm: vm.traps.hypercall(raising, name="log"), "handler 'log'"),
    "observer": ("cpuid", lambda vm: vm.traps.cpuid(raising, mode="observe", name="look"), "handler 'look'"),
    "in place": ("in al, 0x80", lambda vm: vm.traps.port_in(0x80, raising, name="port"), "handler 'port'"),
    "port in": ("mov dx, 0x300; in al, dx", dice, "device 'dice'"),
    "port out": ("mov dx, 0x300; out dx, al", dice, "device 'dice'"),
    "string": ("mov dx, 0x300; mov edi, 0x80000; insb", dice, "device 'dice'"),
    "load": ("mov eax, [0xd0000000]", dice, "device 'dice'"),
    "store": ("mov [0xd0000000], eax", dice, "device 'dice'"),
    "timer": ("nop", late, "raising()"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_text_begins_with_whose_code_it_was(case: str) -> None:
    code, setup, whose = CASES[case]
    result = hv.run_asm(f"{code}; hlt", setup=setup)
    assert result.reason is hv.Reason.HOST_ERROR
    lines = result.message.splitlines()
    assert lines[0] == f"{whose} raised ValueError: on purpose"
    files = [line for line in lines if line.startswith("  File ")]
    assert files and all(__file__ in line for line in files), result.message
    assert files[-1].endswith("in helper") and "because of KeyError: 'nothing'" in lines
    assert result.crash is not None and result.crash.message == result.message


def test_a_plugins_handler_is_named_after_both() -> None:
    with hv.boot(HALT, memory="4M", plugins=[Audit]) as vm:
        result = vm.run(timeout=20)
    first, second = result.message.splitlines()[:2]
    assert first == "handler 'log' of plugin 'Audit' raised ValueError: on purpose"
    assert __file__ in second and second.endswith("in log")


def test_a_condition_is_named() -> None:
    with hv.boot(HALT, memory="4M") as vm:
        assert vm.run(until=raising, timeout=20).message.startswith("until=raising raised ValueError: on purpose\n")


def test_a_listener_that_a_device_of_ours_calls_is_named() -> None:
    with hv.boot(boot_sector("mov al, 65; mov dx, 0x3f8; out dx, al; cli; hlt"), memory="4M") as vm:
        vm.serial[0].listen(raising)
        assert vm.run(timeout=20).message.startswith("raising() raised ValueError: on purpose\n")


def test_a_compiled_handler_is_named() -> None:
    result = hv.run_asm("vmmcall; hlt", setup=lambda vm: vm.traps.hypercall(hv.compiled(compiled), name="count"))
    lines = result.message.splitlines()
    assert lines[0].startswith("handler 'count' raised IndexError") and lines[1].endswith("in compiled")


def test_a_sentence_of_ours_needs_no_traceback() -> None:
    result = hv.run_asm("vmmcall; hlt", setup=lambda vm: vm.traps.hypercall(lambda vcpu, exit: None, name="mine"))
    assert result.message.startswith("handler 'mine' for hypercall returned None") and "\n" not in result.message


def test_what_a_handler_did_wrong_with_ours_is_shown_at_its_own_line() -> None:
    def step(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        vcpu.step(1)
        return hv.HANDLED

    result = hv.run_asm("vmmcall; hlt", setup=lambda vm: vm.traps.hypercall(step))
    lines = result.message.splitlines()
    assert lines[0].startswith("handler 'step' raised The VM run_asm is running already")
    assert len([line for line in lines if line.startswith("  File ")]) == 1 and lines[1].endswith("in step")


def test_the_exception_itself_has_no_frames_of_ours() -> None:
    result = hv.run_asm("vmmcall; hlt", setup=lambda vm: vm.traps.hypercall(raising, name="log"))
    assert result.error is not None
    assert {frame.filename for frame in traceback.extract_tb(result.error.__traceback__)} == {__file__}


def test_all_frames_are_there_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERVISOR_TRACEBACK", "full")
    result = hv.run_asm("vmmcall; hlt", setup=lambda vm: vm.traps.hypercall(raising, name="log"))
    lines = result.message.splitlines()
    assert lines[0] == "handler 'log' raised ValueError: on purpose"
    assert "in _ask" in result.message and "Traceback (most recent call last):" in lines


def test_an_error_of_our_own_is_told_with_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    with hv.boot(boot_sector("mov dx, 0x3f8; in al, dx; cli; hlt"), memory="4M") as vm:
        uart = type(vm.devices["uart0"])
        code = compile("def read(self, offset, size): return 1 // 0", uart.__init__.__code__.co_filename, "exec")
        space: dict[str, Any] = {}
        exec(code, space)  # as if it stood in a file of ours
        monkeypatch.setattr(uart, "read", space["read"])
        result = vm.run(timeout=20)
    assert result.message.startswith("device 'uart0' raised ZeroDivisionError")
    assert "Traceback (most recent call last):" in result.message and "in read" in result.message


def test_causes_that_go_round_in_a_circle_are_told_for_a_while() -> None:
    def circle(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        one, other = ValueError("one"), ValueError("other")
        one.__cause__, other.__cause__ = other, one
        raise one

    result = hv.run_asm("vmmcall; hlt", setup=lambda vm: vm.traps.hypercall(circle))
    assert result.message.startswith("handler 'circle' raised ValueError: one")
    assert 1 <= result.message.count("because of") <= 16
