"""Mistakes on the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import hypervisor as hv
from hypervisor.cli import main
from tests.bad_input.cases import HALT

NINES = "9" * 5000
COMMAND_LINES = (
    # an empty value
    ("", "image='': that is no path; name a file."),
    ("hello --memory=", "'' is not a size; write a number with K, M or G"),
    ("hello --initrd=", "initrd='': that is no path; name a file."),
    ("hello --module=", "--module: '': give FILE or FILE=ARGUMENTS."),
    ("hello --clock=", "clock='': choose 'virtual' or 'wall'."),
    ("hello --stats=", "--stats: '' cannot be written: No such file"),
    ("hello --plugin=", "'' names no plugin; write NAME[,key=value] or MODULE:CLASS[,key=value]."),
    ("hello --format=", "'' is not an image format; use one of linux"),
    ("hello --at=", "--at: '' is no address; give one such as 0x100000."),
    ("hello --entry=", "--entry: '' is no address; give one such as 0x100000."),
    ("hello --cdrom=", "CD='': that is no path; name a file."),
    ("hello --floppy=", "floppy='': that is no path; name a file."),
    ("hello --disk=", "--disk: '': give a file."),
    ("hello --boot=", "boot order '': give each letter once"),
    ("hello --media=", "media='': use one of floppy, disk."),
    ("hello --script=", "--script: '' cannot be read: No such file"),
    ("hello --log=", "--log is ''; give some of int, exits"),
    ("hello --display=", "--display is ''; it must be one of: auto"),
    ("hello --firmware=", "firmware ROM='': that is no path; name a file."),
    ("hello --gdb|", "Invalid value for '--gdb': '' is not a valid int."),
    ("hello --gdb :", "Invalid value for '--gdb': ':' is not a valid int."),
    ("hello --gdb :1234", "Invalid value for '--gdb': ':1234' is not a valid int."),
    # one that is no name
    ("hello --plugin :", "':' names no plugin; write MODULE:CLASS, such as mypackage.plugins:Dice."),
    ("hello --plugin a:", "'a:' names no plugin"),
    ("hello --plugin :b", "':b' names no plugin"),
    ("hello --plugin a:b:c", "'a:b:c' names no plugin"),
    ("hello --plugin .a:b", "'.a:b' names no plugin"),
    ("hello --plugin /etc/passwd:b", "'/etc/passwd:b' names no plugin"),
    # numbers beyond what is one
    (f"hello --memory {NINES}", "is not a size; write a number with K, M or G"),
    ("hello --memory \u0661G", "'\u0661G' is not a size"),
    (f"hello --at {NINES} --format flat --mode 32", "is no address; give one such as 0x100000."),
    ("hello --virtual-timeout nan", "--virtual-timeout is nan; give a number of seconds greater than zero."),
    ("hello --gdb 99999", "port=99999 is no TCP port"),
    # files that are none, or have no end
    ("/proc/self/mem", "/proc/self/mem has no size (Invalid argument), as the image must have; give a file."),
    ("hello --firmware /dev/zero", "/dev/zero is a device without an end; give a file."),
    ("hello --firmware FIFO", "is a pipe or a socket, which has no sectors; give a file."),
    ("hello --script /dev/zero", "--script: /dev/zero is larger than 1 MiB; no script is."),
    ("hello --disk FIFO", "is a pipe or a socket, which has no sectors; give a file."),
    ("hello --disk /dev/zero", "/dev/zero is a device without an end; give a file."),
    ("hello --stats .", "--stats: '.' cannot be written: Is a directory."),
    ("hello --log io:.", "cannot be written: Is a directory."),
)  # fmt: skip


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(("line", "sentence"), COMMAND_LINES, ids=range(len(COMMAND_LINES)))
def test_the_command_line(
    line: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words are separated by spaces; a bar at the end is an empty word."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("FIFO")
    words = [word.removesuffix("|") for word in line.replace("|", " |").split(" ")]
    assert main(["run", *words]) == 125
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said


def test_the_longest_times(capfd: pytest.CaptureFixture[str]) -> None:
    """More nanoseconds than a floating-point number can say."""
    with hv.boot(HALT, memory="4M") as vm:
        assert vm.run(timeout=1e308, virtual_timeout=1e308).reason is hv.Reason.HALTED
        assert vm.run(until=hv.after(1e308), virtual_timeout=1).reason is hv.Reason.HALTED
