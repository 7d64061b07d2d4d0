"""Words of a command line: how they are read, what they become, and the sentences for what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hypervisor.cli.qemu import option_table as table
from hypervisor.cli.qemu import parsing
from hypervisor.cli.qemu.as_config import configuration, ends
from hypervisor.cli.qemu.command import Command
from hypervisor.cli.qemu.ends.host_ends import Socket
from hypervisor.errors import ConfigError, HypervisorError
from hypervisor.vm.config import Disk


def understood(line: str) -> Command:
    return table.understood(line.split())


@pytest.mark.parametrize(
    ("text", "first", "found"),
    [
        ("a=1,b=2", "", {"a": "1", "b": "2"}),
        ("a=1,a=2", "", {"a": "2"}),
        ("512,slots=2", "size", {"size": "512", "slots": "2"}),
        ("file=a,,b.img,format=raw", "", {"file": "a,b.img", "format": "raw"}),
        ("file=a,,,,b", "", {"file": "a,,b"}),
        ("server,nowait", "", {"server": "on", "wait": "off"}),
        ("file=a=b", "", {"file": "a=b"}),
        ("a=,b=1", "", {"a": "", "b": "1"}),
    ],
)
def test_lists(text: str, first: str, found: dict[str, str]) -> None:
    assert parsing.pairs(text, first) == found


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512 << 20),
        ("512M", 512 << 20),
        ("1G", 1 << 30),
        ("1.5g", 3 << 29),
        ("2048k", 2 << 20),
        ("0x40", 64 << 20),
    ],
)
def test_memory(text: str, size: int) -> None:
    assert understood(f"-m {text}").memory == size
    assert understood(f"-m size={text},slots=3").memory == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1X", "0x", "inf", "nan", "1e400"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="is no size"):
        parsing.size(text, 1)


def test_one_dash_and_two_are_the_same_and_the_last_one_counts() -> None:
    assert understood("--m 1G -m 2G --append a -append b").memory == 2 << 30
    assert understood("-append a --append -b").append == "-b"


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("2", 2),
        ("cpus=3,maxcpus=8", 3),
        ("sockets=2,cores=2,threads=2", 8),
        ("cores=4,threads=2", 8),
        ("2,sockets=1", 2),
    ],
)
def test_processors(text: str, cpus: int) -> None:
    assert understood(f"-smp {text}").cpus == cpus


@pytest.mark.parametrize(
    ("line", "order"),
    [
        ("-boot d", "dca"),
        ("-boot order=dc,menu=on", "dca"),
        ("-boot a", "acd"),
        ("-boot once=d,order=c", "dca"),
        ("-boot menu=on", None),
    ],
)
def test_boot_order(line: str, order: str | None) -> None:
    assert understood(line).boot == order


@pytest.mark.parametrize(
    ("line", "serials", "monitors"),
    [
        ("", ["vc"], []),
        ("-nographic", ["mon:stdio"], ["mon:stdio"]),
        ("-nographic -monitor null", ["stdio"], ["null"]),
        ("-nographic -serial mon:stdio", ["mon:stdio"], ["mon:stdio"]),
        ("-nographic -serial file:x", ["file:x"], ["stdio"]),
        ("-serial stdio", ["stdio"], []),
        ("-serial mon:stdio -display none", ["mon:stdio"], ["mon:stdio"]),
        ("-nodefaults", [], []),
        ("-serial null -serial file:y", ["null", "file:y"], []),
        ("-nographic -qmp unix:x,server=on", ["stdio"], []),
        ("-nographic -serial null -monitor none", ["null"], []),
        ("-nodefaults -monitor stdio", [], ["stdio"]),
        ("-chardev stdio,id=c,mux=on -serial chardev:c -mon chardev=c,mode=readline", ["mon:stdio"], ["mon:stdio"]),
    ],
)
def test_what_is_there_without_being_asked_for(line: str, serials: list[str], monitors: list[str]) -> None:
    assert ends(understood(line)) == (serials, monitors)


@pytest.mark.parametrize(
    ("line", "socket"),
    [
        ("-serial unix:/a,server=on,wait=off", Socket("/a", server=True, wait=False)),
        ("-serial unix:/a,server,nowait", Socket("/a", server=True, wait=False)),
        ("-serial unix:/a,server", Socket("/a", server=True)),
        ("-serial unix:/a=b,,c,server=off", Socket("/a=b,c", wait=False)),
        ("-serial unix:/a", Socket("/a", wait=False)),
        ("-serial tcp::44,server=on", Socket(port=44, server=True)),
        ("-serial tcp:localhost:44,nodelay=on", Socket(port=44, wait=False)),
        ("-serial mon:unix:/a,server=on,wait=off", Socket("/a", server=True, wait=False, shared=True)),
        ("-chardev socket,id=c,path=/a -serial chardev:c", Socket("/a", wait=False)),
        ("-chardev socket,id=c,host=127.0.0.1,port=9,server,mux=on -serial chardev:c", Socket("", 9, True, True, True)),
    ],
)
def test_sockets(line: str, socket: Socket) -> None:
    assert understood(line).serials == [socket]


def config_of(line: str) -> Any:
    command = understood(line)
    return configuration(command, ends(command)[0])


def test_drives_are_where_their_options_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "abcd":
        (tmp_path / name).write_bytes(bytes(512))
    config = config_of("-drive file=b,index=1,format=raw -drive file=a,index=0,format=raw -cdrom c -fda d -snapshot")
    assert config.disks == (Disk(Path("a")), Disk(Path("b")))
    assert (config.cdrom, config.floppy) == (Path("c"), Disk(Path("d")))
    config = config_of("a -hdb b")
    assert config.disks == (Disk(Path("a"), "write"), Disk(Path("b"), "write"))
    config = config_of(
        "-drive if=none,id=x,file=a,format=raw -device ide-hd,drive=x,bus=ide.0 -drive file=b,readonly=on"
    )
    assert config.disks == (Disk(Path("a"), "write"), Disk(Path("b")))


def test_the_board_has_what_is_asked_for(tmp_path: Path) -> None:
    def parts(line: str) -> dict[str, Any]:
        return {part.name: part for part in config_of(line).board.parts}

    usual = parts("")
    assert {"uart0"} == {name for name in usual if name.startswith("uart")}
    assert not {"debugcon", "debugexit"} & set(usual)
    assert parts("-device isa-debug-exit")["debugexit"].ports == ((range(0x501, 0x503), 0x501),)
    assert parts("-device isa-debug-exit,iobase=0xf4,iosize=0x04")["debugexit"].ports == ((range(0xF4, 0xF8), 0xF4),)
    assert parts("-debugcon file:x")["debugcon"].ports == ((range(0xE9, 0xEA), 0xE9),)
    assert parts("-debugcon file:x -global isa-debugcon.iobase=0x402")["debugcon"].ports[0][0].start == 0x402
    assert {"uart0", "uart1"} == {name for name in parts("-serial null -serial null") if name.startswith("uart")}


@pytest.mark.parametrize(
    ("line", "there"),
    [
        ("", True),
        ("-nodefaults", False),
        ("-nodefaults -drive media=cdrom,if=ide", True),
        ("-nodefaults -device ide-cd", True),
        ("-drive if=none,id=x,file=a,format=raw -device ide-hd,drive=x", False),
    ],
)
def test_a_cd_drive_without_a_cd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, there: bool) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_bytes(bytes(512))
    assert config_of(line).board.part("ide1").make.keywords.get("cd_drive", False) == there


@pytest.mark.parametrize(
    ("line", "disks", "cd"),
    [
        ("-hda a", (0,), 2),
        ("-hdb a -hdd b", (1, 3), 2),
        ("-drive file=c,media=cdrom,index=0 -hdc a -drive file=b", (1, 2), 0),
        ("-device ide-hd,drive=x,bus=ide.1,unit=1", (3,), 2),
    ],
)
def test_drives_have_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, disks: tuple[int, ...], cd: int
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(512))
    line = f"-drive if=none,id=x,file=a,format=raw {line}" if "drive=x" in line else line
    for number in range(2):
        places = config_of(line).board.part(f"ide{number}").make.keywords
        assert (places["disks"], places["cd"]) == (disks, cd)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-nosuch", "invalid option"),
        ("-kernal x", "is -kernel meant?"),
        ("-kernel", "requires an argument"),
        ("-kernel /no/such", "could not open kernel file"),
        ("-append x", "only allowed with -kernel"),
        ("-drive file=/no/such,format=raw", "No such file"),
        ("-drive file=x,format=qcow2", "qemu-img convert"),
        ("-drive file=x,if=virtio", "use if=ide"),
        ("-drive file=x,fromat=raw", "there is no fromat="),
        ("-drive file=fat:rw:d", "mtools"),
        ("-drive format=raw", "file= is missing"),
        ("-hda x -hda y", "another index"),
        ("-drive file=x,index=4,format=raw", "places 0 to 3"),
        ("-device virtio-net-pci", "no virtio"),
        ("-device e1000,netdev=n", "no network card"),
        ("-device nosuch", "docs/machine.md"),
        ("-device ide-hd,drive=x", "no -drive if=none,id=x"),
        ("-netdev user,id=n", "no network card"),
        ("-nic user", ""),
        ("-nic tap", "no network card"),
        ("-serial tcp:10.0.0.1:4444,server", "port of this machine"),
        ("-serial tcp:localhost:70000,server", "port of this machine"),
        ("-serial tcp:localhost:x", "port of this machine"),
        ("-serial unix:", "path of the socket is missing"),
        ("-serial unix:x,sever", "no sever="),
        ("-monitor telnet:127.0.0.1:4444,server", "use tcp: or unix:"),
        ("-debugcon udp:127.0.0.1:4444", "file:PATH"),
        ("-chardev socket,id=c,host=example.org,port=1", "port of this machine"),
        ("-chardev socket,id=c,path=x,tls-creds=y", "no tls-creds="),
        ("-chardev udp,id=c", "give stdio, file, socket or null"),
        ("-serial chardev:c", "no -chardev with id=c"),
        ("-qmp file:x", "give stdio or a socket"),
        ("-chardev null,id=c -mon chardev=c,mode=control", "give stdio or a socket"),
        ("-chardev null,id=c -mon chardev=c,mode=x", "control, for programs"),
        ("-serial pty", "file:PATH"),
        ("-gdb tcp:10.0.0.1:1234", "tcp::1234"),
        ("-machine virt", "no such board"),
        ("-smp 9", "1 to 8 processors"),
        ("-m 0", "at least 1M"),
        ("-boot x", "letters"),
        ("-rtc base=tomorrow", "2026-01-31"),
        ("-bios nosuch.bin", "could not load PC BIOS 'nosuch.bin'"),
        ("-vnc :0", "-display curses"),
        ("-daemonize", "&"),
        ("-trace x", "docs/traps.md"),
        ("-usbdevice mouse", "PS/2"),
        ("-device isa-debug-exit,iobase=x", "is no number"),
        ("-device isa-debug-exit,iosize=0", "iosize"),
    ],
)
def test_what_is_not_there_is_named_with_what_to_use(line: str, words: str) -> None:
    if not words:
        config_of(line)
        return
    with pytest.raises(HypervisorError) as caught:
        config_of(line)
    assert words in str(caught.value)


@pytest.mark.parametrize("line", ["-M q35", "-vga cirrus", "-d in_asm", "-global a.b=c", "-machine pc,nvdimm=on"])
def test_what_is_other_than_asked_for_is_said(line: str) -> None:
    assert understood(line).notes


@pytest.mark.parametrize(
    "line",
    [
        "-M pc -accel kvm -enable-kvm -cpu host,+x2apic -k en-us -name kernel -rtc base=localtime -vga std -usb",
        "-machine pc-i440fx-7.2,accel=tcg -no-hpet -no-acpi -parallel none -net none -nodefaults",
        "-d int,cpu_reset,guest_errors -D log -no-reboot -no-shutdown -display gtk -audiodev none,id=a",
    ],
)
def test_what_changes_nothing_is_taken_in_silence(line: str) -> None:
    assert not understood(line).notes


def test_each_option_is_listed_once_and_says_what_it_is() -> None:
    names = [name for row in table.ROWS for name in row.names.split()]
    assert len(names) == len(set(names))
    for row in table.ROWS:
        assert row.help or row.meaning is None or isinstance(row.meaning, str), row.names
        assert not isinstance(row.meaning, str) or len(row.meaning) > 10, row.names


def test_random_words_end_in_a_sentence() -> None:
    """Whatever is given: it is understood, or refused by one of our errors."""
    import random

    choose = random.Random(5)
    values = [
        "",
        ",",
        "=",
        "a=",
        ",,",
        "file=",
        "stdio",
        "0x",
        "-1",
        "id=x,",
        "tcp:",
        "\0",
        "é",
        "none",
        "help",
        "a" * 5000,
    ]
    names = [*table.BY_NAME, "nosuch", ""]
    for _ in range(3000):
        words = [
            choose.choice(["-", "--"]) + choose.choice(names) if choose.random() < 0.6 else choose.choice(values)
            for _ in range(4)
        ]
        try:
            command = table.understood(words)
            ends(command)
        except ConfigError as error:
            assert str(error)
