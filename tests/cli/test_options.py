from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor.cli.options import (
    RunOptions,
    only,
    parse_log,
    parse_module,
    parse_number,
    parse_statuses,
    with_gdb_port,
)
from hypervisor.errors import ConfigError


def test_addresses_are_decimal_or_prefixed() -> None:
    assert parse_number("--at", "0x100000") == 0x100000
    assert parse_number("--at", "4096") == 4096
    assert parse_number("--at", None) is None


@pytest.mark.parametrize("text", ["", "here", "-1", "0x", "1M"])
def test_a_bad_address_names_the_option(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--entry is .*; give an address such as 0x100000"):
        parse_number("--entry", text)


def test_a_module_is_a_file_and_its_arguments() -> None:
    assert parse_module("initrd.img") == ("initrd.img", "")
    assert parse_module("drv.o=irq=5 debug") == ("drv.o", "irq=5 debug")


def test_a_module_whose_name_has_an_equals_sign(tmp_path: Path) -> None:
    file = tmp_path / "a=b"
    file.touch()
    assert parse_module(str(file)) == (str(file), "")


def test_a_module_needs_a_file() -> None:
    with pytest.raises(ConfigError, match="give FILE or FILE=ARGUMENTS"):
        parse_module("=x")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("run hello --gdb", "run hello --gdb=1234"),
        ("run --gdb hello --wait", "run --gdb=1234 hello --wait"),
        ("run --gdb 4321 hello", "run --gdb 4321 hello"),
        ("run --gdb -1 hello", "run --gdb -1 hello"),
        ("run --gdb=0 hello", "run --gdb=0 hello"),
        ("run --gdb --wait hello", "run --gdb=1234 --wait hello"),
        ("run -- --gdb", "run -- --gdb"),
        ("", ""),
    ],
)
def test_the_port_of_gdb_may_be_left_out(typed: str, meant: str) -> None:
    assert with_gdb_port(typed.split()) == meant.split()


def test_waiting_needs_gdb() -> None:
    with pytest.raises(ConfigError, match="--wait holds the guest for gdb: give --gdb, too"):
        RunOptions("hello", wait=True)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("option", ["timeout", "virtual_timeout"])
def test_times_are_positive(option: str, seconds: float) -> None:
    with pytest.raises(ConfigError, match="greater than zero"):
        RunOptions("hello", **{option: seconds})  # type: ignore[arg-type]  # two of many keys


@pytest.mark.parametrize("cpus", [0, 9, -1])
def test_a_vm_has_one_to_eight_cpus(cpus: int) -> None:
    with pytest.raises(ConfigError, match=f"--cpus is {cpus}; give 1 to 8"):
        RunOptions("hello", cpus=cpus)


def test_the_clock_is_wall_for_a_person_only() -> None:
    options = RunOptions(image="hello")
    assert options.boot_arguments(interactive=True)["clock"] == "wall"
    assert options.boot_arguments(interactive=False)["clock"] == "virtual"
    assert RunOptions(image="hello", clock="virtual").boot_arguments(interactive=True)["clock"] == "virtual"


def test_a_log_is_categories_and_a_file() -> None:
    assert parse_log("int,exits") == ("int,exits", None)
    assert parse_log("io:a:b.log") == ("io", "a:b.log")


@pytest.mark.parametrize("text", ["", "everything", "int,", "int io", ":file", "io:"])
def test_a_bad_log_names_the_categories(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--log is '.*'; (give some of int, exits, faults|after the colon)"):
        RunOptions("hello", logs=(text,))


def test_drives_become_arguments_of_boot() -> None:
    from hypervisor import Disk

    options = RunOptions(None, cdrom="a.iso", floppy="a.img", disks=("b,mode=write", "c"), boot="dc")
    arguments = options.boot_arguments(interactive=False)
    assert arguments["disks"] == [Disk("b", mode="write"), Disk("c")]
    assert (arguments["cdrom"], arguments["floppy"], arguments["boot_order"]) == ("a.iso", "a.img", "dc")
    assert "media" not in arguments and "disks" not in RunOptions("hello").boot_arguments(interactive=False)


def test_there_is_one_place_for_a_diskette() -> None:
    assert (only("--floppy", None), only("--floppy", ["a"])) == (None, "a")
    with pytest.raises(ConfigError, match="--floppy is given 2 times, and there is one such drive"):
        only("--floppy", ["a", "b"])


def test_an_empty_value_is_a_value() -> None:
    assert RunOptions(None, disks=("a",), boot="").boot_arguments(interactive=False)["boot_order"] == ""


def test_something_has_to_boot() -> None:
    with pytest.raises(ConfigError, match="There is nothing to boot: give an IMAGE, a drive with --disk, --cdrom"):
        RunOptions(None)


def test_statuses_of_success_are_those_of_a_debug_exit() -> None:
    assert parse_statuses(None) == ()
    assert parse_statuses("33") == (33,)
    assert parse_statuses("33, 0x23") == (33, 0x23)


@pytest.mark.parametrize("text", ["", "0", "32", "33,34", "-1", "ok", "33,"])
def test_a_status_that_no_debug_exit_has_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--success is .*so odd"):
        parse_statuses(text)
