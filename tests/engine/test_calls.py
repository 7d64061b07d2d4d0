"""Calls from generated code: what our engines leave out or replace, other engines of the process keep."""

from __future__ import annotations

import pytest

from hypervisor.engine import selftest
from hypervisor.engine.interposition.interpose import guard
from hypervisor.engine.interposition.native import native

CODE = 0x1000


@pytest.fixture(scope="module", autouse=True)
def interposed() -> None:
    selftest.quick()
    guard()


def test_another_engine_can_still_be_stopped() -> None:
    """Unicorn's own exit check, which our engines leave out, is what a timeout stops a loop by."""
    unicorn = native().unicorn
    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    uc.mem_map(CODE, 0x1000)
    uc.mem_write(CODE, b"\x48\xff\xc0\xeb\xfb")  # again: inc rax; jmp again
    uc.emu_start(CODE, 0, timeout=20_000)
    assert uc.reg_read(unicorn.x86_const.UC_X86_REG_RAX) > 1000


def test_another_engine_counts_its_own_blocks() -> None:
    """Inline hooks go through the same call as helpers."""
    unicorn = native().unicorn
    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    uc.mem_map(CODE, 0x1000)
    uc.mem_write(CODE, b"\x48\xff\xc8\x75\xfb")  # again: dec rax; jnz again
    uc.reg_write(unicorn.x86_const.UC_X86_REG_RAX, 100)
    blocks: list[int] = []
    uc.hook_add(unicorn.UC_HOOK_BLOCK, lambda uc, address, size, data: blocks.append(address))
    uc.emu_start(CODE, CODE + 5)
    assert blocks == [CODE] * 100
