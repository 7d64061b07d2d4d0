"""Which kernels run, and what is said where those of the package cannot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypervisor.engine.compiling import cache, choosing, compiler, host_processor
from hypervisor.engine.compiling.choosing import Chosen, choose
from hypervisor.engine.compiling.kernel_file import KernelFile, unpack

LEVEL_2 = "fpu sse sse2 ht syscall lm pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm"


def cpuinfo(flags: str) -> list[str]:
    return ["processor\t: 0\n", "model name\t: A Processor\n", f"flags\t\t: {flags}\n"]


@pytest.fixture
def kernels() -> KernelFile:
    """Those that run here anyway: what they can run on is not looked at again."""
    compiler.code()
    chosen = choose()
    assert isinstance(chosen, Chosen), chosen
    return chosen.kernels


@pytest.fixture
def shipped(kernels: KernelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package's file, and a place for what is compiled, which is not there yet."""
    path = tmp_path / "package" / "x86-64-v2.kernels"
    path.parent.mkdir()
    path.write_bytes(kernels.pack())
    monkeypatch.setattr(choosing, "SHIPPED", path)
    monkeypatch.setattr(cache, "_bases", lambda: iter([tmp_path / "cache"]))
    monkeypatch.setattr(cache, "_own_bases", [])
    monkeypatch.setattr(cache, "_instead", [])
    monkeypatch.setattr(host_processor, "_lines", lambda: cpuinfo(LEVEL_2))
    cache._chosen.cache_clear()
    cache.digest.cache_clear()
    yield path
    cache._chosen.cache_clear()
    cache.digest.cache_clear()


@pytest.fixture
def compiled(kernels: KernelFile, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What kernels were compiled for: a list, and not half a minute each."""
    targets: list[str] = []

    def compile_kernels(target: str) -> KernelFile:
        targets.append(target)
        return kernels._replace(processor=target)

    monkeypatch.setattr(compiler, "compile_kernels", compile_kernels)
    return targets


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_those_of_the_package_run_and_nothing_is_made(
    shipped: Path, compiled: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = compiler.Code()
    assert code.address and code.floating
    chosen = choose()
    assert isinstance(chosen, Chosen) and chosen.shipped and chosen.path == shipped
    assert not compiled and not said(capsys) and not (tmp_path / "cache").exists()


def test_those_compiled_here_run_before_them(
    shipped: Path, compiled: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = compiler.fill("asked to")
    assert made == tmp_path / "cache" / cache.digest() / "kernels"
    chosen = choose()
    assert isinstance(chosen, Chosen) and not chosen.shipped
    assert chosen.path == made and chosen.kernels.processor == "A Processor"
    assert "once per install, about 20 s), as asked to ..." in said(capsys)


def spoil(how: str, shipped: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the package's kernels useless; why they are."""
    data = bytearray(shipped.read_bytes())
    if how == "missing":
        shipped.unlink()
        return "this installation came without any"
    if how == "damaged":
        data[len(data) // 2] ^= 0x10
        shipped.write_bytes(data)
        return f"{shipped} is damaged"
    if how == "cut short":
        shipped.write_bytes(data[:-1])
        return f"{shipped} is damaged"
    if how == "unreadable":
        shipped.unlink()
        shipped.mkdir()
        return f"{shipped} cannot be read (Is a directory)"
    if how == "old":
        shipped.write_bytes(unpack(bytes(data))._replace(made_of="others").pack())
        return f"{shipped} was compiled from other sources"
    if how == "nothing known":
        monkeypatch.setattr(host_processor, "_lines", lambda: [])
        lacking = "cx16, lahf_lm, pni, popcnt, sse4_1, sse4_2, ssse3"
    else:
        flags = LEVEL_2.replace("sse4_2 popcnt ", "")
        monkeypatch.setattr(host_processor, "_lines", lambda: cpuinfo(flags))
        lacking = "popcnt, sse4_2"
    return f"this processor has no {lacking}, and those of the package are for x86-64-v2"


@pytest.mark.parametrize(
    "how", ["missing", "damaged", "cut short", "unreadable", "old", "nothing known", "an old processor"]
)
def test_where_they_cannot_run_it_is_said_and_compiled(
    how: str, shipped: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    why = spoil(how, shipped, monkeypatch)
    assert choose() == why
    compiler.Code()
    words = "hypervisor: compiling the engine's kernels (once per install, about 20 s)"
    assert said(capsys) == f"{words}, as {why} ...\n" and len(compiled) == 1
    compiler.Code()
    assert not said(capsys) and len(compiled) == 1  # it is kept


def test_a_damaged_file_of_ours_is_made_anew(
    shipped: Path, compiled: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    made = compiler.fill("asked to")
    whole = made.read_bytes()
    made.write_bytes(whole[:-7])
    capsys.readouterr()
    compiler.Code()
    assert f"as {made} is damaged ..." in said(capsys)
    assert made.read_bytes() == whole and len(compiled) == 2


@pytest.mark.parametrize("name", sorted(host_processor.NEEDED))
def test_each_flag_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_processor, "_lines", lambda: cpuinfo(LEVEL_2))
    assert host_processor.lacks() == []
    rest = " ".join(flag for flag in LEVEL_2.split() if flag != name)
    monkeypatch.setattr(host_processor, "_lines", lambda: cpuinfo(rest))
    assert host_processor.lacks() == [name]


def test_only_the_first_processor_is_read() -> None:
    if os.path.exists("/proc/cpuinfo"):
        assert sum(line.startswith("flags") for line in host_processor._lines()) <= 1
        assert "flags" in host_processor.description() and host_processor.model()
