"""The PC speaker: what was played, and when."""

from __future__ import annotations

from typing import Any

from tests.input.machines import sector

WAIT = "mov ah, 0x86; mov cx, 1; mov dx, 0x86a0; int 0x15"
"""0.1 s."""


def play(divisor: int) -> str:
    return f"mov al, 0xb6; out 0x43, al; mov al, {divisor & 255}; out 0x42, al; mov al, {divisor >> 8}; out 0x42, al"


TUNE = f"""
    sti
    {play(1193)}
    in al, 0x61
    or al, 3
    out 0x61, al
    {WAIT}
    {play(2711)}
    {WAIT}
    in al, 0x61
    and al, 0xfc
    out 0x61, al
    {WAIT}
    or al, 1
    out 0x61, al
    jmp quit
"""


def test_what_was_played(vm: Any) -> None:
    machine = vm(sector(TUNE), memory="4M")
    machine.run(timeout=60)
    events = list(machine.speaker.events)
    # The control word of a new tone stops the counter, for as long as the guest takes to write the divisor.
    assert [frequency and round(frequency) for _, frequency in events] == [1000, None, 440, None]
    assert [at for at, _ in events] == sorted(at for at, _ in events)
    assert 0.1 <= events[2].at - events[0].at <= 0.2


def test_sirens_are_bounded(vm: Any) -> None:
    siren = """
        in al, 0x61
        or al, 3
        out 0x61, al
        mov al, 0xb6
        out 0x43, al
        mov cx, 24000
    again: mov al, cl
        out 0x42, al
        loop again
        jmp quit
    """
    machine = vm(sector(siren), memory="4M")
    machine.run(timeout=60)
    assert len(machine.speaker.events) == machine.speaker.events.maxlen == 10_000
