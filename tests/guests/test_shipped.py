"""The shipped guests: names, descriptions, images that are built the same every time and when they are missing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import hypervisor.guests as guests
from hypervisor.errors import ImageError
from hypervisor.guests.build import build, main


def test_every_source_ships_and_has_a_description() -> None:
    assert {path.stem for path in guests.SOURCES.glob("*.asm")} == set(guests.names())
    descriptions = guests.descriptions()
    assert tuple(descriptions) == guests.names()
    assert all(text.endswith(".") and len(text) < 120 for text in descriptions.values())


def test_the_images_are_what_their_loaders_look_for() -> None:
    hello = guests.shipped("hello").image
    assert (len(hello), hello[510:]) == (512, b"\x55\xaa")
    for name in guests.names()[1:]:
        guest = guests.shipped(name)
        assert guest.image[:4] == (0x1BADB002).to_bytes(4, "little")
        fields = [int.from_bytes(guest.image[at : at + 4], "little") for at in range(0, 32, 4)]
        assert sum(fields[:3]) % (1 << 32) == 0
        origin, end, memory_end, entry = fields[4:]
        assert (origin, end) == (0x100000, 0x100000 + len(guest.image))
        assert memory_end == guest.symbols["memory_end"] < 0x200000
        assert entry == guest.symbols["start"]


def test_the_same_sources_give_the_same_files(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in build(guests.SOURCES, tmp_path / "a")]
    second = [path.read_bytes() for path in build(guests.SOURCES, tmp_path / "b")]
    assert first == second
    assert len(first) == 2 * len(guests.NAMES)


def test_the_command_builds_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(tmp_path), "hello"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hello.bin", "hello.sym"]
    facts = json.loads((tmp_path / "hello.sym").read_text())
    assert (facts["origin"], facts["symbols"]["start"]) == (0x7C00, 0x7C00)
    assert main(["--sources", str(tmp_path), "--output", str(tmp_path), "absent"]) == 1
    assert "absent.asm cannot be read as a source" in capsys.readouterr().err


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ImageError, match="There is no shipped guest 'nope'; the shipped guests are hello, hello32,"):
        guests.shipped("nope")


def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    images, sources = tmp_path / "images", tmp_path / "sources"
    images.mkdir()
    sources.mkdir()
    (sources / "hello.asm").write_text("# hello: halts.\n.code16\nhlt\n")
    monkeypatch.setattr(guests, "IMAGES", images)
    monkeypatch.setattr(guests, "SOURCES", sources)
    return images, sources


def test_a_checkout_assembles_what_is_missing_or_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, sources = checkout(tmp_path, monkeypatch)
    guest = guests.shipped("hello")
    assert (guest.image, guest.description) == (b"\xf4", "halts.")
    (sources / "hello.asm").write_text("# hello: pauses.\npause\n")
    later = (images / "hello.bin").stat().st_mtime_ns + 10**9
    os.utime(sources / "hello.asm", ns=(later, later))
    assert guests.shipped("hello").image == b"\xf3\x90"


def test_an_installation_without_images_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = checkout(tmp_path, monkeypatch)
    monkeypatch.setattr(guests, "SOURCES", tmp_path / "nowhere")
    with pytest.raises(ImageError, match="The image of the shipped guest hello is missing"):
        guests.shipped("hello")
    (images / "hello.bin").write_bytes(b"\xf4")
    (images / "hello.sym").write_text("{")
    with pytest.raises(ImageError, match="The files of the shipped guest hello are damaged"):
        guests.shipped("hello")
