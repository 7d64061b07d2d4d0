"""Assertions that wait in the guest's time: alone, with workers, many examples, and in an event loop."""

from __future__ import annotations

import re
from pathlib import Path

from tests.guest_tests.test_items import run
from tests.sectors import boot_sector

SECTOR = boot_sector("""
    xor ax, ax
    mov ds, ax
    mov ax, 0xb800
    mov es, ax
    mov ah, 0x86
    mov cx, 4
    mov dx, 0x93e0
    int 0x15
    mov si, text
next:
    lodsb
    test al, al
    jz shown
    mov dx, 0x3f8
    out dx, al
    mov ah, 7
    mov es:[bx], ax
    add bx, 2
    jmp next
shown:
    mov ah, 0x86
    mov cx, 4
    mov dx, 0x93e0
    int 0x15
    mov dx, 0x604
    mov ax, 0x2000
    out dx, ax
text:
    .asciz "ready"
""")
"""Writes a word on the serial port and on the screen after 0.3 s of its time, and switches off 0.3 s later."""

TESTS = """
import asyncio
import unittest

import hypothesis
import hypothesis.strategies as some
import pytest

import hypervisor as hv

OPTIONS = {"memory": "8M"}


def waits(vm):
    return {
        "console": vm.console.expect, "serial": vm.serial[0].expect, "screen": vm.screen.expect, "any": vm.expect,
        "text": vm.screen.wait_for_text,
    }


@pytest.fixture(scope="session")
def booted(vm_factory):
    return vm_factory.moment("booted", "late.img", until=hv.after(0.01), **OPTIONS)


@pytest.mark.parametrize("where", ["console", "serial", "screen", "any", "text"])
def test_waits_as_long_as_it_may(vm, where):
    guest = vm("late.img", **OPTIONS)
    with pytest.raises(hv.ExpectError, match="the run ended as virtual-timeout"):
        waits(guest)[where]("ready", virtual_timeout=0.2)
    assert 0.2 <= guest.now < 0.21
    waits(guest)[where]("ready", timeout=None, virtual_timeout=0.2)
    assert 0.3 <= guest.now < 0.35
    guest.run().check()


def test_fails_by_what_is_not_there(vm):
    vm("late.img", **OPTIONS).expect("steady", timeout=None)


@hypothesis.settings(max_examples=30, database=None, deadline=None)
@hypothesis.given(some.floats(0.01, 0.6))
def test_many_examples(booted, seconds):
    with booted.fork() as guest:
        try:
            guest.screen.expect("ready", timeout=None, virtual_timeout=seconds)
            assert guest.now >= 0.3
        except hv.ExpectError:
            assert guest.now < 0.35


async def boots(vm):
    guests = [vm("late.img", **OPTIONS) for _ in range(3)]
    ticks = []

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    ends = await asyncio.gather(*(guest.run_async(until=guest.screen.contains("ready")) for guest in guests))
    ticking.cancel()
    assert ticks and [end.reason for end in ends] == [hv.Reason.UNTIL] * 3
    assert len({guest.now for guest in guests}) == 1
    for end in await asyncio.gather(*(guest.run_async() for guest in guests)):
        end.check()


def test_an_event_loop(vm):
    asyncio.run(boots(vm))


class TestCase(unittest.IsolatedAsyncioTestCase):
    @pytest.fixture(autouse=True)
    def _vm(self, vm):
        self.vm = vm

    async def test_unittests_event_loop(self):
        await boots(self.vm)
"""

WHERE = ("console", "serial", "screen", "any", "text")
FOUND = {
    **{f"test_it.py::test_waits_as_long_as_it_may[{where}]": "PASSED" for where in WHERE},
    "test_it.py::test_fails_by_what_is_not_there": "FAILED",
    "test_it.py::test_many_examples": "PASSED",
    "test_it.py::test_an_event_loop": "PASSED",
    "test_it.py::TestCase::test_unittests_event_loop": "PASSED",
}  # fmt: skip


def test_assertions_wait_in_the_guests_time(tmp_path: Path) -> None:
    (tmp_path / "late.img").write_bytes(SECTOR)
    (tmp_path / "test_it.py").write_text(TESTS)
    text, found = run(tmp_path, "-p", "xdist", "-n", "2")
    assert found == FOUND, text
    assert "shows 'steady', but the run ended as powered-off" in text
    assert re.search(r"serial port 0 ends with:\nE +ready", text) and "guest 1 (late.img): console" in text
