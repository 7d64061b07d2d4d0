from __future__ import annotations

import pytest

from hypervisor.cli.status import BY_REASON, exit_status, sentence
from tests.cli.fakes import FakeResult


@pytest.mark.parametrize(
    ("reason", "guest_status", "expected"),
    [
        ("powered-off", None, 0),
        ("debug-exit", 33, 33),
        ("debug-exit", 1, 1),
        ("debug-exit", 0x201, 1),  # cut to 8 bits, odd as before
        ("debug-exit", 125, 125),
        ("stopped", None, 121),
        ("reset", None, 122),
        ("halted", None, 123),
        ("idle", None, 123),
        ("timeout", None, 124),
        ("virtual-timeout", None, 124),
        ("host-error", None, 125),
        ("crashed", None, 126),
    ],
)
def test_exit_status_by_reason(reason: str, guest_status: int | None, expected: int) -> None:
    assert exit_status(FakeResult(reason, status=guest_status)) == expected


@pytest.mark.parametrize("reason", ["halted", "idle"])
def test_halt_ok_makes_a_halt_a_success(reason: str) -> None:
    assert exit_status(FakeResult(reason), halt_ok=True) == 0


@pytest.mark.parametrize("reason", sorted(set(BY_REASON) - {"powered-off", "halted", "idle"}))
def test_halt_ok_changes_nothing_else(reason: str) -> None:
    assert exit_status(FakeResult(reason), halt_ok=True) == exit_status(FakeResult(reason)) != 0


def test_success_is_a_status_as_the_guest_had_it() -> None:
    assert exit_status(FakeResult("debug-exit", status=33), success=(35, 33)) == 0
    assert exit_status(FakeResult("debug-exit", status=0x221), success=(33,)) == 33
    others = set(BY_REASON) - {"powered-off"}
    assert all(exit_status(FakeResult(reason, status=33), success=(33,)) for reason in others)


def test_every_reason_of_the_core_has_an_exit_status() -> None:
    import hypervisor

    assert {reason.value for reason in hypervisor.Reason} == {*BY_REASON, "debug-exit"}


@pytest.mark.parametrize("reason", ["powered-off", "debug-exit"])
def test_a_guest_that_did_what_it_wanted_gets_no_comment(reason: str) -> None:
    assert sentence(FakeResult(reason, status=1), "RIP 0x1") is None


@pytest.mark.parametrize("reason", ["halted", "idle", "timeout", "virtual-timeout", "stopped"])
def test_a_sentence_says_where_the_guest_stood(reason: str) -> None:
    text = sentence(FakeResult(reason, "because"), "RIP 0x7c3e (idle+0x2)")
    assert text is not None
    assert "RIP 0x7c3e (idle+0x2)" in text


def test_a_crash_is_told_with_its_report() -> None:
    text = sentence(FakeResult("crashed", "Triple fault.", crash="rax=1\nlast exits: ..."), "RIP 0x1")
    assert text == "Triple fault.\nrax=1\nlast exits: ..."


def test_a_report_that_begins_with_the_message_is_not_told_twice() -> None:
    assert sentence(FakeResult("crashed", "Triple fault.", crash="Triple fault.\nrax=1"), "RIP 0x1") == (
        "Triple fault.\nrax=1"
    )
