from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor import Disk, MachineConfig
from hypervisor.cli.machine_options import parsed
from hypervisor.cli.run_options import RunOptions, parse_log, parse_statuses, with_gdb_port
from hypervisor.errors import ConfigError
from hypervisor.vm.config import parse_module

HELLO = MachineConfig(image="hello")


def test_addresses_are_decimal_or_prefixed() -> None:
    assert parsed({"at": "0x100000", "entry": "4096", "image": None}) == {"at": 0x100000, "entry": 4096}


@pytest.mark.parametrize("text", ["", "here", "-1", "0x", "1M"])
def test_a_bad_address_names_the_option(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--entry: .* is no address; give one such as 0x100000"):
        parsed({"entry": text})


def test_a_module_is_a_file_and_its_arguments() -> None:
    assert parse_module("initrd.img") == ("initrd.img", "")
    assert parse_module("drv.o=irq=5 debug") == ("drv.o", "irq=5 debug")


def test_a_module_whose_name_has_an_equals_sign(tmp_path: Path) -> None:
    file = tmp_path / "a=b"
    file.touch()
    assert parse_module(str(file)) == (str(file), "")


def test_a_module_needs_a_file() -> None:
    with pytest.raises(ConfigError, match="--module: '=x': give FILE or FILE=ARGUMENTS"):
        parsed({"modules": ["=x"]})


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
        RunOptions(HELLO, wait=True)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("option", ["timeout", "virtual_timeout"])
def test_times_are_positive(option: str, seconds: float) -> None:
    with pytest.raises(ConfigError, match="greater than zero"):
        RunOptions(HELLO, **{option: seconds})  # type: ignore[arg-type]  # two of many keys


@pytest.mark.parametrize("cpus", [0, 9, -1])
def test_a_vm_has_one_to_eight_cpus(cpus: int) -> None:
    with pytest.raises(ConfigError, match=f"cpus={cpus}: a VM has 1 to 8 virtual CPUs"):
        MachineConfig(cpus=cpus)


def test_the_clock_is_wall_for_a_person_only() -> None:
    options = RunOptions(HELLO)
    assert options.machine_for(interactive=True).clock == "wall"
    assert options.machine_for(interactive=False).clock == "virtual"
    assert RunOptions(HELLO, clock_given=True).machine_for(interactive=True).clock == "virtual"


def test_a_log_is_categories_and_a_file() -> None:
    assert parse_log("int,exits") == ("int,exits", None)
    assert parse_log("io:a:b.log") == ("io", "a:b.log")


@pytest.mark.parametrize("text", ["", "everything", "int,", "int io", ":file", "io:"])
def test_a_bad_log_names_the_categories(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--log is '.*'; (give some of int, exits, faults|after the colon)"):
        RunOptions(HELLO, logs=(text,))


def test_drives_become_fields_of_the_machine() -> None:
    given = {"cdrom": ["a.iso"], "floppy": ["a.img"], "disks": ["b,mode=write", "c"], "boot_order": "dc", "media": None}
    assert parsed(given) == {
        "cdrom": "a.iso", "floppy": "a.img", "disks": (Disk("b", mode="write"), Disk("c")), "boot_order": "dc",
    }  # fmt: skip


def test_there_is_one_place_for_a_diskette() -> None:
    with pytest.raises(ConfigError, match="--floppy is given 2 times, and there is one such drive"):
        parsed({"floppy": ["a", "b"]})


def test_an_empty_value_is_a_value() -> None:
    assert parsed({"boot_order": ""}) == {"boot_order": ""}


def test_something_has_to_boot() -> None:
    with pytest.raises(ConfigError, match="There is nothing to boot: give an IMAGE, a drive with --disk, --cdrom"):
        RunOptions(MachineConfig())


def test_statuses_of_success_are_those_of_a_debug_exit() -> None:
    assert parse_statuses(None) == ()
    assert parse_statuses("33") == (33,)
    assert parse_statuses("33, 0x23") == (33, 0x23)


@pytest.mark.parametrize("text", ["", "0", "32", "33,34", "-1", "ok", "33,"])
def test_a_status_that_no_debug_exit_has_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--success is .*so odd"):
        parse_statuses(text)
