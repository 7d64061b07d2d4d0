"""The package's tables of facts agree with the oracle's own, written apart from them."""

from __future__ import annotations

from hypervisor.arch import paging as facts
from hypervisor.arch.vectors import ERROR_CODE_VECTORS, FAULT_VECTORS, VECTORS, Severity

from . import paging
from .event import FAULTS
from .events import CONTRIBUTORY
from .generate_event import CODES_WITH_ERROR
from .state import MAXPHYADDR

OFFERED = range(20)


def test_vectors() -> None:
    assert {n for n in OFFERED if n in ERROR_CODE_VECTORS} == set(CODES_WITH_ERROR)
    assert {n for n in OFFERED if n in FAULT_VECTORS} == FAULTS
    classes = {n: VECTORS[n].severity for n in OFFERED if n in VECTORS}
    assert {n for n, severity in classes.items() if severity is Severity.CONTRIBUTORY} == CONTRIBUTORY
    assert {n for n, severity in classes.items() if severity is Severity.PAGE_FAULT} == {14}
    assert all(VECTORS[n].number == n for n in VECTORS)


def test_page_table_formats() -> None:
    assert facts.MAXPHYADDR == MAXPHYADDR
    assert facts.ADDRESS_64 == paging.ADDRESS
    assert facts.PAE[0].reserved == paging.PDPTE_RESERVED
    assert facts.PAE[2].reserved == paging.PAE_RESERVED
    assert facts.LONG_4LEVEL[0].reserved == paging.BEYOND_PHYSICAL | paging.PS | paging.AMD_BIT8
    assert facts.LONG_4LEVEL[1].reserved == paging.BEYOND_PHYSICAL | paging.AMD_BIT8
    assert facts.LONG_4LEVEL[1].reserved_large == paging.BEYOND_PHYSICAL | 0x3FFF_E000
    assert facts.LONG_4LEVEL[2].reserved_large == paging.BEYOND_PHYSICAL | 0x001F_E000
    assert facts.LONG_4LEVEL[3].reserved == facts.LONG_4LEVEL[2].reserved == paging.BEYOND_PHYSICAL
    assert facts.PAE[1].reserved_large == paging.PAE_RESERVED | 0x001F_E000
    assert [(level.shift, level.bits, level.size) for level in facts.LEGACY_32] == [(22, 10, 4), (12, 10, 4)]
