"""Every reason for which a run ends, reached by a real guest; until=; the result."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import hypervisor as hv
from tests.core.bare import bare
from tests.sectors import boot_sector

REASON = hv.Reason
JUMP = "l: jmp l"


def booted(code: str, **options: Any) -> hv.VM:
    return hv.boot(boot_sector(code), memory="4M", **options)


GUESTS: dict[REASON, tuple[str, dict[str, Any], str]] = {
    REASON.POWERED_OFF: ("mov dx, 0x604; mov ax, 0x2000; out dx, ax; hlt", {}, "powered off"),
    REASON.DEBUG_EXIT: ("mov al, 3; out 0xf4, al; hlt", {}, "status 7"),
    REASON.RESET: ("mov al, 0xfe; out 0x64, al; hlt", {}, "reset"),
    REASON.HALTED: ("cli; hlt", {}, "HLT with interrupts off"),
    REASON.IDLE: (
        "mov al, 0xff; out 0x21, al; out 0xa1, al; mov al, 0x30; out 0x43, al; sti; l: hlt; jmp l",
        {},
        "nothing is left",
    ),
    REASON.UNTIL: (JUMP, {"until": hv.after(0.001)}, "0.001 s of virtual time have passed"),
    REASON.TIMEOUT: ("sti; l: inc ax; jmp l", {"timeout": 0.1}, "0.1 s of host time"),
    REASON.VIRTUAL_TIMEOUT: ("sti; l: inc ax; jmp l", {"virtual_timeout": 0.001}, "0.001 s of guest time"),
    REASON.CRASHED: ("cli; lidt [zero]; int 3; zero: .word 0, 0, 0", {}, "triple fault"),
}


@pytest.mark.parametrize("reason", GUESTS)
def test_reasons(reason: REASON) -> None:
    code, options, message = GUESTS[reason]
    with booted(code) as vm:
        result = vm.run(**{"timeout": 10, **options})
        assert result.reason is reason, result.message
        assert message in result.message
        assert (result.crash is not None) == (reason is REASON.CRASHED)
        assert result.status == (7 if reason is REASON.DEBUG_EXIT else None)
        if reason in (REASON.POWERED_OFF, REASON.UNTIL):
            assert result.check() is result
        else:
            with pytest.raises(hv.GuestCrashed, match=reason.value):
                result.check()
        if reason is REASON.DEBUG_EXIT:
            assert result.check(status=7) is result
        else:
            assert result.check(reason=reason) is result
            with pytest.raises(hv.GuestCrashed, match=reason.value):
                result.check(status=7)


@pytest.mark.parametrize("reason", [reason for reason in GUESTS if reason is not REASON.UNTIL])
def test_a_run_that_ends_before_what_until_asked_for_has_failed(reason: REASON) -> None:
    code, options, _ = GUESTS[reason]
    with booted(code) as vm:
        result = vm.run(**{"timeout": 10, **options}, until="PASS")
        assert result.reason is reason
        with pytest.raises(hv.GuestCrashed, match=r"ended as .*\nIt was meant to run until some output shows 'PASS'\."):
            result.check()


def test_check_says_what_would_let_an_end_pass() -> None:
    with booted("mov al, 3; out 0xf4, al; hlt") as vm:
        result = vm.run(timeout=10)
    with pytest.raises(hv.GuestCrashed, match=r"where this is how it should end, say check\(status=7\)"):
        result.check()
    with pytest.raises(hv.GuestCrashed, match="It was meant to end by a debug exit with status 33"):
        result.check(status=33)
    stopped = hv.run_asm("vmmcall", setup=lambda vm: vm.traps.hypercall(lambda vcpu, exit: hv.stop("done")))
    with pytest.raises(hv.GuestCrashed, match=r"say check\(reason=Reason.STOPPED\)"):
        stopped.check()
    assert stopped.check(reason=REASON.STOPPED) is stopped
    with pytest.raises(hv.GuestCrashed, match="It was meant to end as halted"):
        stopped.check(reason=REASON.HALTED)


@pytest.mark.parametrize(
    "asked,sentence",
    [
        ({"status": 16}, "so odd"),
        ({"status": -1}, "so odd"),
        ({"status": "33"}, "so odd"),
        ({"status": 33, "reason": REASON.STOPPED}, "only a debug exit has a status"),
        ({"reason": REASON.DEBUG_EXIT}, "every status pass"),
        ({"reason": "stopped"}, r"hypervisor\.Reason\.STOPPED"),
    ],
)
def test_check_refuses_what_no_run_can_end_with(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(hv.ConfigError, match=sentence):
        hv.run_asm("hlt").check(**asked)


def test_the_other_two_reasons() -> None:
    def register(answer: Any) -> Any:
        return lambda vm: vm.traps.hypercall(lambda vcpu, exit: answer())

    def raising() -> None:
        raise RuntimeError("on purpose")

    assert hv.run_asm("vmmcall", setup=register(lambda: hv.stop("done"))).reason is REASON.STOPPED
    assert hv.run_asm("vmmcall", setup=register(raising)).reason is REASON.HOST_ERROR
    assert {*GUESTS, REASON.STOPPED, REASON.HOST_ERROR} == set(REASON)


@pytest.mark.parametrize("code", [JUMP, "l: pause; jmp l"])
def test_a_jump_to_itself_with_interrupts_off_is_halted(code: str) -> None:
    with booted(f"cli; {code}") as vm:
        result = vm.run(timeout=10)
        assert result.reason is REASON.HALTED and "a jump to itself with interrupts off" in result.message


@pytest.mark.parametrize(
    "mode,code",
    [
        (16, ".byte 0xe9, 0xfd, 0xff"),
        (32, ".byte 0xe9, 0xfb, 0xff, 0xff, 0xff"),
        (64, ".byte 0xe9, 0xfb, 0xff, 0xff, 0xff"),
    ],
)
def test_a_jump_to_itself_may_have_a_long_displacement(mode: int, code: str) -> None:
    with bare(code, mode) as vm:
        result = vm.run(timeout=20)
        assert result.reason is REASON.HALTED and "jump to itself" in result.message, result.message


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_timeouts_under_both_clocks(clock: str) -> None:
    with booted("sti; l: inc ax; jmp l", clock=clock) as vm:
        began = time.monotonic()
        assert vm.run(timeout=0.2).reason is REASON.TIMEOUT
        assert time.monotonic() - began < 2
        assert vm.run(until=hv.after(0.02), timeout=10).reason is REASON.UNTIL
        assert vm.run(virtual_timeout=0.02, timeout=10).reason is REASON.VIRTUAL_TIMEOUT


def test_a_request_from_another_thread() -> None:
    with booted("sti; l: inc ax; jmp l") as vm:
        thread = threading.Timer(0.1, lambda: vm.request_stop("from outside"))
        thread.start()
        result = vm.run(timeout=10)
        thread.join()
        assert result.reason is REASON.STOPPED and result.message == "from outside"


HELLO = """mov dx, 0x3f8; mov si, text; l: lodsb; test al, al; jz end; out dx, al; jmp l; end: cli; hlt
text: .asciz "one two three\"
"""


def test_until_text_goes_on_behind_the_text() -> None:
    with booted(HELLO) as vm:
        assert vm.run(until="one", timeout=5).reason is REASON.UNTIL
        assert vm.console.text.endswith("one")
        assert vm.run(until="three", timeout=5).reason is REASON.UNTIL
        assert vm.run(until="one", timeout=5).reason is REASON.HALTED


def test_until_a_predicate() -> None:
    asked = []
    with bare("l: vmmcall; jmp l") as vm:
        calls = []

        @vm.traps.hypercall()
        def call(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            calls.append(1)
            return hv.HANDLED

        result = vm.run(until=lambda: asked.append(1) or len(calls) >= 5, timeout=5)
        assert result.reason is REASON.UNTIL and len(calls) == 5 and asked


@pytest.mark.parametrize("until,sentence", [(5, "give a text"), ("x", "this VM has none")])
def test_until_is_checked(until: Any, sentence: str) -> None:
    with booted("hlt") as vm, pytest.raises(hv.ConfigError, match="name the text"):
        vm.run(until="")
    with bare("hlt") as vm, pytest.raises(hv.ConfigError, match=sentence):
        vm.run(until=until)


def test_a_raising_predicate_is_a_host_error() -> None:
    with bare("hlt") as vm:
        result = vm.run(until=lambda: 1 / 0, timeout=5)
        assert result.reason is REASON.HOST_ERROR and "ZeroDivisionError" in result.message


def test_the_result_counts_and_measures() -> None:
    result = hv.run_asm("cpuid; cpuid; rdtsc; hlt", regs={"rbx": 7})
    assert (result.exits["cpuid"], result.exits["rdtsc"], result.exits["hlt"]) == (2, 1, 1)
    assert 0 < result.virtual_s < 0.001 and 0 < result.wall_s < 5
    assert result.rip == 0x10007
    with pytest.raises(AttributeError, match="the registers by name"):
        result.eaxx  # noqa: B018


# --- strict, reset ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code,what",
    [
        ("in al, 0x15", "port_in 0x15"),
        ("out 0x15, al", "port_out 0x15"),
        ("mov al, [0xd0000000]", "mmio_read 0xd0000000"),
        ("mov [0xd0000000], al", "mmio_write 0xd0000000"),
        ("mov ecx, 0x5000; rdmsr", "rdmsr 0x5000"),
        ("mov ecx, 0x5000; wrmsr", "wrmsr 0x5000"),
    ],
)
def test_strict_stops_at_what_nothing_answers(code: str, what: str) -> None:
    with bare(f"{code}; hlt") as vm:
        vm.strict = True
        result = vm.run(timeout=5)
        assert result.reason is REASON.STOPPED and result.message.startswith(what)
    with bare(f"{code}; hlt") as vm:
        vm.run(timeout=5)
        assert vm.unclaimed[what] == 1


COUNT_BOOTS = """mov byte ptr [0x500], 0; inc byte ptr [0x510]; cmp byte ptr [0x510], 3; je end
mov al, 0xfe; out 0x64, al; l: jmp l
end: cli; hlt
"""


def test_reboot_goes_on_after_a_reset_and_memory_keeps_its_contents() -> None:
    with booted(COUNT_BOOTS, reboot=True) as vm:
        assert vm.run(timeout=5).reason is REASON.HALTED
        assert vm.memory.read(0x510, 1) == b"\3"
    with booted(COUNT_BOOTS) as vm:
        assert vm.run(timeout=5).reason is REASON.RESET
        vm.reset()
        assert vm.vcpu.rip == 0x7C00
        assert vm.run(timeout=5).reason is REASON.RESET
        assert vm.memory.read(0x510, 1) == b"\2"


def test_a_reset_clears_registers_and_devices() -> None:
    with booted("mov dx, 0x3ff; mov al, 0x77; out dx, al; mov ebx, 5; cli; hlt") as vm:
        vm.run(timeout=5)
        vm.vcpu.dr7 = 1
        vm.reset()
        assert (vm.vcpu.ebx, vm.vcpu.dr7, vm.vcpu.cr2) == (0, 0x400, 0)
        assert vm.devices["uart0"].read(7, 1) != 0x77
