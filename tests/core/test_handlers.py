"""Handlers: registration, modes, order, names, switching, errors, and that nobody pays for what nobody listens to."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import hypervisor as hv
from hypervisor.traps.dispatch import Dispatch
from tests.core.bare import SYSTEM, bare


def ok(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
    return hv.PASS


# --- registration -----------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[Any, str]] = {
    "signature": (
        lambda t: t.cpuid(lambda vcpu: hv.PASS),
        r"handler '<lambda>' for cpuid: a handler takes \(vcpu, exit\)",
    ),
    "too many": (lambda t: t.cpuid(lambda a, b, c: hv.PASS), "a handler takes"),
    "no function": (lambda t: t.cpuid(5, 5), "5 is not a function"),
    "unknown keyword": (lambda t: t.cpuid(ok, leef=1), r"cpuid\(leef=...\): no such argument"),
    "unknown kind": (lambda t: t.cupid(ok), "no trap 'cupid'; there are:.*cpuid"),
    "leaf": (lambda t: t.cpuid(ok, leaf=1 << 32), "leaf 0x100000000-0x100000000 is outside 0x0-0xffffffff"),
    "bool": (lambda t: t.cpuid(ok, leaf=True), "a number or a non-empty range of leaf values"),
    "port": (lambda t: t.port_in(0x10000, ok), "port 0x10000-0x10000 is outside 0x0-0xffff"),
    "negative": (lambda t: t.port_in(-1, ok), "is outside"),
    "empty range": (lambda t: t.port_in(range(5, 5), ok), "non-empty range"),
    "stepped range": (lambda t: t.port_in(range(0, 8, 2), ok), "step 1"),
    "text key": (lambda t: t.port_in("com1", ok), "a number or a non-empty range of port values"),
    "msr": (lambda t: t.rdmsr(1 << 32, ok), "msr 0x100000000-0x100000000 is outside"),
    "vector": (lambda t: t.exception(32, ok), "vector 0x20-0x20 is outside 0x0-0x1f"),
    "interrupt": (lambda t: t.interrupt(256, ok), "is outside 0x0-0xff"),
    "gpa": (lambda t: t.mmio_read(1 << 40, ok), "is outside"),
    "cr": (lambda t: t.cr_write(1, ok), r"cr_write\(1\): choose one of 0, 2, 3, 4, 8"),
    "dr": (lambda t: t.dr_read(8, ok), "choose one of 0, 1, 2, 3, 4, 5, 6, 7"),
    "svm": (lambda t: t.svm(ok, instruction="vmrum"), "choose one of vmrun"),
    "mode": (lambda t: t.cpuid(ok, mode="watch"), "mode='watch' is unknown; choose 'decide' or 'observe'"),
    "when": (lambda t: t.cpuid(ok, mode="observe", when="later"), "when='later' is unknown"),
    "after": (lambda t: t.cpuid(ok, when="after"), "when='after' is for mode='observe'"),
    "hypercall": (lambda t: t.hypercall(ok, number=-1), "is outside 0x0-0xffffffffffffffff"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_registrations(case: str) -> None:
    register, sentence = BAD[case]
    with bare("hlt") as vm, pytest.raises((hv.TrapError, AttributeError), match=sentence):
        register(vm.traps)


OVERLAPS: dict[str, tuple[Any, Any, bool]] = {
    "same leaf": (lambda t: t.cpuid(ok, leaf=1), lambda t: t.cpuid(ok, leaf=1), True),
    "other leaf": (lambda t: t.cpuid(ok, leaf=1), lambda t: t.cpuid(ok, leaf=2), False),
    "narrower": (lambda t: t.cpuid(ok), lambda t: t.cpuid(ok, leaf=2), False),
    "wider": (lambda t: t.port_in(5, ok), lambda t: t.port_in(range(0, 9), ok), False),
    "crossing": (lambda t: t.port_in(range(0, 5), ok), lambda t: t.port_in(range(4, 9), ok), True),
    "leaf and subleaf": (lambda t: t.cpuid(ok, leaf=1), lambda t: t.cpuid(ok, subleaf=2), True),
    "observers": (lambda t: t.cpuid(ok, mode="observe"), lambda t: t.cpuid(ok, mode="observe"), False),
    "in and out": (lambda t: t.port_in(5, ok), lambda t: t.port_out(5, ok), False),
    "two of everything": (lambda t: t.hlt(ok), lambda t: t.hlt(ok), True),
    "same place": (lambda t: t.execute(0x1000, ok), lambda t: t.execute(0x1000, ok), True),
    "two places": (lambda t: t.execute(0x1000, ok), lambda t: t.execute(0x1001, ok), False),
    "memory": (lambda t: t.memory(range(8), ok), lambda t: t.memory(range(8), ok), False),
}


@pytest.mark.parametrize("case", OVERLAPS)
def test_overlap(case: str) -> None:
    first, second, clash = OVERLAPS[case]
    with bare("hlt") as vm:
        first(vm.traps)
        if clash:
            with pytest.raises(hv.TrapError, match=r"overlaps handler 'ok' for .*\. Narrow one of them"):
                second(vm.traps)
        else:
            second(vm.traps)


def test_a_disabled_handler_overlaps_nobody_until_it_is_enabled() -> None:
    with bare("hlt") as vm:
        vm.traps.hlt(ok, name="one")
        vm.traps.disable("one")
        vm.traps.hlt(ok, name="two")
        with pytest.raises(hv.TrapError, match="overlaps"):
            vm.traps.enable("one")
        vm.traps.remove("two")
        vm.traps.enable("one")


def test_names() -> None:
    with bare("hlt") as vm:
        vm.traps.cpuid(ok, leaf=1)
        vm.traps.cpuid(ok, leaf=2)
        vm.traps.cpuid(ok, leaf=3, name="third")
        assert [n for n in vm.traps.names() if not n.startswith("builtin.")] == ["ok", "ok-2", "third"]
        with pytest.raises(hv.TrapError, match="a handler of this name already"):
            vm.traps.cpuid(ok, leaf=4, name="third")
        with pytest.raises(hv.TrapError, match="no handler 'fourth'; there are: ok, ok-2, third"):
            vm.traps.disable("fourth")


def test_another_thread_switches_nothing_during_a_run() -> None:
    with bare("vmmcall; hlt") as vm:
        vm.traps.cpuid(ok, name="other")
        sentences = []

        def acts() -> None:
            traps = vm.traps
            for act in (
                lambda: traps.disable("other"),
                lambda: traps.enable("other"),
                lambda: traps.replace("other", ok),
                lambda: traps.remove("other"),
                lambda: traps.hlt(ok),
            ):
                with pytest.raises(
                    hv.TrapError, match="from this thread while the VM runs; do it in a handler"
                ) as caught:
                    act()
                sentences.append(str(caught.value))

        @vm.traps.hypercall()
        def call(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            other = threading.Thread(target=acts)
            other.start()
            other.join()
            return hv.HANDLED

        assert vm.run(timeout=5).reason is hv.Reason.HALTED
        assert len(set(sentences)) == 5 and "other" in vm.traps and "ok" not in vm.traps


# --- order and modes --------------------------------------------------------------------------------------------------


def test_the_narrower_is_asked_first_and_observers_before_and_after() -> None:
    order = []

    def note(name: str, verdict: Any) -> Any:
        return lambda vcpu, exit: order.append(name) or verdict

    def setup(vm: hv.VM) -> None:
        vm.traps.cpuid(note("any", hv.PASS))
        vm.traps.cpuid(note("after", None), mode="observe", when="after")
        vm.traps.cpuid(note("leaf", hv.PASS), leaf=0)
        vm.traps.cpuid(note("both", hv.PASS), leaf=0, subleaf=0)
        vm.traps.cpuid(note("before", None), mode="observe")

    hv.run_asm("xor eax, eax; xor ecx, ecx; cpuid; hlt", setup=setup)
    assert order == ["before", "both", "leaf", "any", "after"]


def test_observers_change_nothing() -> None:
    with bare("mov eax, 0; cpuid; hlt") as vm:

        @vm.traps.cpuid(mode="observe")
        def scribble(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
            exit.eax, exit.ebx, exit.leaf = 1, 2, 3

        assert vm.run(timeout=5).eax == hv.run_asm("xor eax, eax; cpuid; hlt").eax

    def write(vcpu: hv.Vcpu, exit: hv.Exit) -> None:
        vcpu.rbx = 5

    result = hv.run_asm("cpuid; hlt", setup=lambda vm: vm.traps.cpuid(write, mode="observe"))
    assert result.reason is hv.Reason.HOST_ERROR and "rbx cannot be written now: handler 'write'" in result.message


def test_an_observer_that_answers_is_an_error() -> None:
    result = hv.run_asm("cpuid; hlt", setup=lambda vm: vm.traps.cpuid(ok, mode="observe"))
    assert result.reason is hv.Reason.HOST_ERROR and "an observer returns nothing" in result.message


AFTER = {
    "cpuid": ("cpuid", "eax"),
    "rdmsr": ("mov ecx, 0xc0000080; rdmsr", "value"),
    "port_in": ("in al, 0x60", "value"),
    "port_out": ("out 0x60, al", "value"),
    "mmio_read": ("mov al, [0xd0000000]", "value"),
    "cr_read": ("mov rax, cr0", "value"),
    "cr_write": ("mov rax, cr0; mov cr0, rax", "value"),
    "rdtsc": ("rdtsc", "value"),
    "rdrand": ("rdrand eax", "value"),
    "smsw": ("smsw eax", "value"),
    "str": ("str eax", "value"),
}


@pytest.mark.parametrize("kind", AFTER)
def test_after_sees_the_final_value(kind: str) -> None:
    code, field = AFTER[kind]
    seen: list[int] = []
    setup = lambda vm: getattr(vm.traps, kind)(  # noqa: E731
        mode="observe", when="after"
    )(lambda vcpu, exit: seen.append(getattr(exit, field)))
    result = hv.run_asm(f"{code}; hlt", setup=setup)
    assert result.reason is hv.Reason.HALTED, result.message
    assert len(seen) == 1 and isinstance(seen[0], int)
    if kind not in ("port_out", "cr_write"):
        mask = 0xFF if kind in ("port_in", "mmio_read") else 0xFFFFFFFF
        assert seen[0] & mask == result.rax & mask


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, True, 0, "handled"])
def test_a_missing_verdict_says_what_to_write(answer: object) -> None:
    def forgetful(vcpu: hv.Vcpu, exit: hv.Exit) -> object:
        return answer

    result = hv.run_asm("cpuid; hlt", setup=lambda vm: vm.traps.cpuid(forgetful))
    assert result.reason is hv.Reason.HOST_ERROR
    assert f"handler 'forgetful' for cpuid returned {answer!r} instead of a verdict" in result.message
    assert (
        "return hv.HANDLED, return hv.PASS, return hv.RETRY, return hv.inject(vector), return hv.stop" in result.message
    )


@pytest.mark.parametrize(
    "kind,code", [("cpuid", "cpuid"), ("port_out", "out 0x60, al"), ("mmio_read", "mov al, [rdi]")]
)
def test_a_raising_handler_ends_its_vm_and_no_other(kind: str, code: str) -> None:
    with (
        hv.Host("4M", 1) as host,
        bare(f"{code}; hlt", host=host, rdi=0xD0000000) as bad,
        bare("hlt", host=host) as good,
    ):

        def broken(vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
            raise ZeroDivisionError("on purpose")

        getattr(bad.traps, kind)()(broken)
        result = bad.run(timeout=5)
        assert result.reason is hv.Reason.HOST_ERROR
        assert "ZeroDivisionError: on purpose" in result.message and "in broken" in result.message
        assert result.crash is not None and "10000" in str(result.crash) and "rax" in str(result.crash)
        with pytest.raises(hv.GuestCrashed, match="on purpose"):
            result.check()
        assert good.run(timeout=5).reason is hv.Reason.HALTED


# --- cost -------------------------------------------------------------------------------------------------------------


def test_what_nobody_listens_to_is_not_dispatched(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatched: list[str] = []
    decide = Dispatch.decide

    def counting(self: Dispatch, vcpu: hv.Vcpu, exit: hv.Exit) -> hv.Verdict:
        dispatched.append(exit.kind.name.lower())
        return decide(self, vcpu, exit)

    monkeypatch.setattr(Dispatch, "decide", counting)
    code = "; ".join(source for kind, source in SYSTEM.items() if kind != "iret")
    with bare(f"{code}; int3; hlt") as vm:
        vm.run(timeout=5)
    needed = {"rdmsr", "wrmsr", "cr_write", "dr_read", "dr_write", "clts", "lmsw", "rdrand", "rdseed", "hlt"}
    assert set(dispatched) <= needed  # only what has a built-in handler in Python
    quiet = {
        "lgdt",
        "lidt",
        "sgdt",
        "sidt",
        "sldt",
        "str",
        "lldt",
        "pushf",
        "popf",
        "cr_read",
        "smsw",
        "invd",
        "wbinvd",
    }
    assert not quiet & set(vm.stats)  # these do not even leave the guest


def test_sealed_handlers_stay_until_one_comes_or_goes() -> None:
    with bare("hlt") as vm:
        first = vm.traps.seal()
        assert vm.traps.seal() is first
        vm.traps.cpuid(ok, name="mine")
        changes = (
            lambda: vm.traps.disable("mine"),
            lambda: vm.traps.enable("mine"),
            lambda: vm.traps.replace("mine", lambda vcpu, exit: hv.PASS),
            lambda: vm.traps.remove("mine"),
        )
        seen = [first, vm.traps.seal()]
        for change in changes:
            change()
            seen.append(vm.traps.seal())
        assert len({id(one) for one in seen}) == len(seen)
