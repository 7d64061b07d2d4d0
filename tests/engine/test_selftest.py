"""The self-test accepts the build that is installed and refuses others with a sentence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hypervisor.engine import layout, selftest
from hypervisor.engine.interposition import native
from hypervisor.errors import EngineError

OFFSETS = (
    "REGS", "EIP", "EFLAGS", "SEGS", "LDT", "TR", "GDT", "IDT", "CR", "FPUC", "MXCSR", "XMM", "SYSENTER_CS",
    "SYSENTER_ESP", "SYSENTER_EIP", "STAR", "VM_HSAVE", "LSTAR", "CSTAR", "FMASK", "KERNEL_GS_BASE", "TSC_AUX", "PAT",
    "SEG_SELECTOR", "SEG_BASE", "SEG_LIMIT", "SEG_SIZE", "UC_CPU", "CPU_ENV", "CPU_UC", "CPU_TO_ENV", "ENV_UC",
    "TCG_EPILOGUE", "TCG_BUFFER", "TCG_BUFFER_SIZE", "TCG_CODE_NEXT", "TCG_CODE_LIMIT", "TLB_SLOW", "TLB_SLOW_SIZE",
    "TLB_USED",
)  # fmt: skip


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """No verdict from before, and none left behind."""
    kept = native.native()
    for function in (selftest.quick, selftest.check):
        function.cache_clear()
    yield
    for function in (selftest.quick, selftest.check, native.native):
        function.cache_clear()
    assert native.native().library is kept.library


def test_the_installed_build_is_good() -> None:
    selftest.check()
    selftest.quick()
    assert selftest.check.cache_info().currsize == 1


@pytest.mark.parametrize("name", OFFSETS)
@pytest.mark.parametrize("shift", [8, -8, 0x10000])
def test_a_shifted_offset_is_noticed(name: str, shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, name, getattr(layout, name) + shift)
    with pytest.raises(EngineError, match=r"cannot be used: .*wheel of unicorn 2\.1\.4.*pip install"):
        selftest.check()


def test_an_unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    native.native.cache_clear()
    monkeypatch.setattr(native.native().unicorn, "__version__", "2.2.0")
    native.native.cache_clear()
    with pytest.raises(EngineError, match=r"Unicorn 2\.2\.0 is not a build .* \(known: 2\.1\.4\).*pip install"):
        selftest.check()


def test_a_build_without_the_internal_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SYMBOLS", (*layout.SYMBOLS, "tlb_flush_all_of_it"))
    native.native.cache_clear()
    with pytest.raises(EngineError, match="does not export tlb_flush_all_of_it"):
        selftest.check()


def test_another_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "this_platform", lambda: layout.Platform("darwin", "aarch64"))
    native.native.cache_clear()
    with pytest.raises(EngineError, match="cannot run on darwin aarch64"):
        selftest.quick()


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("_AT_FAULT", 0x1000, "RIP at the page fault"),
        ("_ABSENT", 0x4000, "vector, error code, address"),
        ("_SEED", 0, "a counter that was stopped often"),
        ("_AT_DEVICE", 0x1000, "the accesses to ports and devices"),
    ],
)
def test_wrong_behaviour_is_noticed(name: str, wrong: int, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, name, wrong)
    with pytest.raises(EngineError, match=sentence.replace("(", r"\(")):
        selftest.check()
