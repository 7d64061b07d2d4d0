"""The table of BIOS services, and docs/bios.md, which is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.errors import TrapError
from hypervisor.firmware.bios.bios import PROVIDERS
from hypervisor.firmware.bios.call import DONE, Call, Outcome
from hypervisor.firmware.bios.names import NAMES
from hypervisor.firmware.bios.service import Services, markdown, rows, service

DOCUMENT = Path(__file__).parents[2] / "docs" / "bios.md"


def test_the_document_lists_what_is_served() -> None:
    """After adding a service: ``python -m hypervisor.firmware.bios`` prints the table for docs/bios.md."""
    text = DOCUMENT.read_text()
    begin = text.index("| INT |")
    assert text[begin : text.index("\n\n", begin) + 1] == markdown(rows(PROVIDERS))


def test_titles_are_words() -> None:
    for row in rows(PROVIDERS):
        assert row.title and "|" not in row.title and row.title[0] != " ", row
        assert 0 <= row.interrupt <= 0xFF and -1 <= row.function <= 0xFFFF


def test_names_are_for_calls_that_nobody_serves() -> None:
    """Served calls have titles; a name beside one would never be read."""
    assert not NAMES.keys() & {(row.interrupt, row.function) for row in rows(PROVIDERS)}


class Example:
    @service(0x60, 0x01, "by AH")
    def ah(self, call: Call) -> Outcome:
        return DONE

    @service(0x60, 0x0102, "by AX")
    @service(0x60, 0x0304, "by another AX")
    def ax(self, call: Call) -> Outcome:
        return DONE

    @service(0x61, None, "whole")
    def whole(self, call: Call) -> Outcome:
        return DONE


@pytest.mark.parametrize(
    ("interrupt", "ax", "method"),
    [
        (0x60, 0x0100, "ah"),
        (0x60, 0x0102, "ax"),
        (0x60, 0x0103, "ah"),
        (0x60, 0x0304, "ax"),
        (0x60, 0x0305, None),
        (0x60, 0x0001, None),
        (0x61, 0x0000, "whole"),
        (0x61, 0xFFFF, "whole"),
        (0x62, 0x0100, None),
    ],
)
def test_the_service_is_that_of_ax_or_ah_or_the_interrupt(interrupt: int, ax: int, method: str | None) -> None:
    example = Example()
    found = Services([example]).find(interrupt, ax)
    assert found == (method and getattr(example, method))


def test_a_call_has_one_service() -> None:
    with pytest.raises(TrapError, match=r"INT 60h AH=01h \(by AH\) is declared twice"):
        Services([Example(), Example()])
