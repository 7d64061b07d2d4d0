"""Consoles as streams with names: who reads them, what is kept, logs with a bound, and searching."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.assembler import assemble
from hypervisor.backends.console import CHUNK, Console

KIB = 1024
PRINTS = "again: mov al, 'x'; mov cx, 79; mov dx, 0x3f8; line: out dx, al; loop line; mov al, 10; out dx, al; jmp again"
"""A guest that prints without end."""


def booted(source: str) -> hv.VM:
    image = assemble(source, origin=0x8000, mode=16).code
    return hv.boot(image, memory="4M", format="flat", at=0x8000, mode=16)


def test_each_console_has_a_name_and_is_a_stream_of_its_own() -> None:
    source = "mov al, 'a'; mov dx, 0x3f8; out dx, al; mov al, 'b'; out 0xe9, al; cli; hlt"
    with booted(source) as vm:
        assert list(vm.consoles)[:2] == ["console", "serial0"] and {"debugcon", "bios"} <= vm.consoles.keys()
        vm.run()
        texts = {name: stream.text for name, stream in vm.consoles.items()}
        assert (texts["console"], texts["serial0"], texts["debugcon"]) == ("ab", "a", "b")
        with pytest.raises(hv.DeviceError, match="takes no input"):
            vm.consoles["debugcon"].send(b"x")


def test_readers_come_and_go_and_the_guest_waits_for_none() -> None:
    with booted(PRINTS) as vm:
        vm.console.keep("8K")
        with vm.console.attach() as early:
            vm.run(virtual_timeout=0.001)
            seen = early.read()
            assert seen.startswith(b"xxx") and early.lost == 0 and len(seen) == len(vm.console)
            with vm.console.attach(before=80) as late:
                assert len(late.read(30) + late.read()) == 80 and late.read() == b""
            assert vm.console.attachments == (early,)
            vm.run(virtual_timeout=0.1)
            rest = early.read()
            assert early.lost > 0 and len(seen) + early.lost + len(rest) == len(vm.console)
            assert rest == vm.console.bytes and 8 * KIB <= len(rest) <= 8 * KIB + 2 * CHUNK
            vm.run(virtual_timeout=0.01)
            early.skip(100)
            assert len(early.read()) == 100
        assert vm.console.attachments == ()
        with pytest.raises(hv.ConfigError, match="detached"):
            early.read()


def test_a_reader_follows_a_machine_that_goes_back() -> None:
    with booted(PRINTS) as vm, vm.console.attach() as reader:
        vm.run(virtual_timeout=0.001)
        with vm.snapshot() as snapshot:
            end = len(vm.console)
            vm.run(virtual_timeout=0.001)
            reader.read()
            vm.revert(snapshot)
            assert reader.read() == b"" and reader.position == end
            vm.run(virtual_timeout=0.001)
            assert reader.read() == vm.console.since(end) != b""


def test_a_guest_that_prints_without_end_costs_bounded_memory_and_disk(tmp_path: Path) -> None:
    with booted(PRINTS) as vm:
        for stream in vm.consoles.values():
            stream.keep("16K")
        log = vm.console.log(tmp_path / "log", limit="32K")
        most = 0
        for _ in range(20):
            vm.run(virtual_timeout=0.02)
            most = max(most, sum(each.stat().st_size for each in tmp_path.iterdir()))
            assert all(len(stream.bytes) <= 16 * KIB + 2 * CHUNK for stream in vm.consoles.values())
        written = len(vm.console)
        assert written > 6 * 32 * KIB and 16 * KIB <= most <= 32 * KIB and not log.failure
        log.close()
        kept = (tmp_path / "log.1").read_bytes() + (tmp_path / "log").read_bytes()
        assert vm.console.bytes[-12 * KIB :] == kept[-12 * KIB :]
        assert set(kept.splitlines()) <= {b"x" * 79, kept.splitlines()[-1]}


def test_what_is_kept_unless_something_else_is_said() -> None:
    console = Console()
    piece = bytes(range(256)) * 4096
    most = 0
    for _ in range(40):
        console.write(piece)
        most = max(most, len(console.bytes))
    assert 16 << 20 <= len(console.bytes) and most < (16 << 20) + 2 * CHUNK and len(console) == 40 << 20
    assert console.text.endswith(piece[-100:].decode("utf-8", "replace"))
    for wrong in ("1K", "17M"):
        with pytest.raises(hv.ConfigError, match="a console keeps 4 KiB to 16 MiB"):
            console.keep(wrong)


def test_reading_while_another_thread_writes_is_whole() -> None:
    """Each piece goes on where the one before ended, and no writer is disturbed: a view keeps bytes from growing."""
    console = Console()
    console.keep("8K")
    numbers = b"".join(b"%07d\n" % n for n in range(200_000))
    failed: list[BaseException] = []

    def write() -> None:
        try:
            for at in range(0, len(numbers), 56):
                console.write(numbers[at : at + 56])
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    position = read = 0
    while thread.is_alive() or position < len(console):
        position, data = console.kept_from(position, 1000)
        assert data == numbers[position : position + len(data)]
        position += len(data)
        read += len(data)
    thread.join()
    assert not failed and read > 0


def no_space(fd: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_that_cannot_be_written_ends_and_leaves_the_guest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with booted(PRINTS) as vm:
        log = vm.console.log(tmp_path / "log")
        with monkeypatch.context() as full:
            full.setattr(os, "write", no_space)
            assert vm.run(virtual_timeout=0.01).reason is hv.Reason.VIRTUAL_TIMEOUT
        assert log.failure == f"{tmp_path / 'log'} cannot be written: No space left on device; the log ends here."
        refused = (
            (tmp_path, "1M", "cannot be written"),
            (tmp_path / "x", "1K", "at least"),
            ("/dev/null", "1M", "is no ordinary file"),
        )
        for path, limit, said in refused:
            with pytest.raises(hv.ConfigError, match=said):
                vm.console.log(path, limit)
        descriptors = len(os.listdir("/proc/self/fd"))
        vm.console.log(tmp_path / "one").close()
        vm.console.log(tmp_path / "two")
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_searching_finds_places_and_lines() -> None:
    with booted("cli; hlt") as vm:
        stream = vm.console
        stream.write("début: début\nerror 1 at é\n\nerror 2".encode() + b"\xff!\nerror 3\n")
        found = stream.search(r"error (\d)")
        assert [one.line for one in found] == ["error 1 at é", "error 2\ufffd!", "error 3"]
        assert [stream.since(one.position)[:7] for one in found] == [b"error 1", b"error 2", b"error 3"]
        assert stream.search("error", most=1) == found[:1] and stream.search("none") == []
        assert [one.position for one in stream.search(".*", most=1)] == [0]
        stream.keep("4K")
        stream.write(b"y" * 60_000 + b"\nlast\n")
        assert stream.search("error") == [] and stream.search("last")[0].line == "last"
        assert stream.since(stream.search("last")[0].position) == b"last\n"
