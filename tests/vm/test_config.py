"""A machine's configuration: one list of options, as values, as TOML and on the command line."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
import typer

import hypervisor as hv
from hypervisor.cli.app import app, main
from hypervisor.vm.config import options

FULL = hv.MachineConfig(
    image="kernel.elf",
    memory="96M",
    cpus=3,
    append='console=ttyS0 quiet "quoted"',
    initrd=Path("initrd.img"),
    modules=(("mod.bin", "a=1"), "plain.bin"),
    clock="wall",
    seed=-7,
    plugins=("dice,sides=4",),
    strict=True,
    reboot=True,
    format="multiboot1",
    at=0x100000,
    entry=0x100010,
    mode=32,
    cdrom="c,d.iso",
    floppy="a.img",
    disks=(hv.Disk("b", mode="write"), "ünïcode.img"),
    boot_order="dc",
    media="disk",
    firmware="seabios",
    name="full",
    identity="one",
    sharing=False,
)


def test_toml_gives_back_what_it_was_given(tmp_path: Path) -> None:
    text = FULL.to_toml()
    again = hv.MachineConfig.from_toml(text)
    assert again == replace(FULL, initrd="initrd.img", disks=(hv.Disk("b", mode="write"), hv.Disk("ünïcode.img")))
    assert again.to_toml() == replace(again).to_toml()
    file = tmp_path / "machine.toml"
    file.write_text(text)
    assert hv.MachineConfig.from_toml(file) == hv.MachineConfig.from_toml(str(file)) == again


def test_every_field_is_in_the_test_above() -> None:
    default = hv.MachineConfig()
    same = {each.name for each in fields(FULL) if getattr(FULL, each.name) == getattr(default, each.name)}
    assert same == {"board"}


def test_defaults_are_not_written() -> None:
    assert hv.MachineConfig().to_toml() == ""
    assert hv.MachineConfig(image="hello").to_toml() == 'image = "hello"\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("memry = '64M'\n", r"memry=: a machine has no such option. Did you mean memory\?"),
        ("cpus = '2'\n", "cpus = '2' is no int"),
        ("cpus = true\n", "cpus = True is no int"),
        ("strict = 1\n", "strict = 1 is no bool"),
        ("cpus = 9\n", "cpus=9: a VM has 1 to 8"),
        ("disks = 'a.img'\n", "disks = 'a.img' is no list"),
        ("disks = [{mode = 'write'}]\n", r"\{'mode': 'write'\} is no disk; give a file, or a table of image, mode"),
        ("disks = [{image = 'a', cache = 'none'}]\n", "is no disk"),
        ("disks = [{image = 'a', mode = 'none'}]\n", "disk mode 'none': use one of"),
        ("modules = 'm'\n", "modules = 'm' is no list"),
        ("memory = '64'\n", "it has no unit"),
        ("boot_order = 'x'\n", "boot order 'x'"),
        ("board = 'pc'\nimage\n", "is no configuration of a machine"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(hv.ConfigError, match=sentence):
        hv.MachineConfig.from_toml(text)


def test_a_name_is_text() -> None:
    options: dict[str, Any] = {"name": 5}
    with pytest.raises(hv.ConfigError, match="name=5: a name is text"):
        hv.MachineConfig(**options)


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(hv.ConfigError, match=r"none\.toml is no configuration of a machine: No such file"):
        hv.MachineConfig.from_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "given", [{"image": b"\xf4"}, {"plugins": (object(),)}, {"board": hv.pc()}], ids=["bytes", "plugin", "board"]
)
def test_what_only_this_process_has_cannot_be_written(given: dict[str, Any]) -> None:
    with pytest.raises(hv.ConfigError, match="cannot be written as TOML; give a file or a name"):
        hv.MachineConfig(**given).to_toml()


def test_an_unknown_option_names_the_one_that_was_meant() -> None:
    with pytest.raises(hv.ConfigError, match=r"memroy=: a machine has no such option. Did you mean memory\?"):
        hv.boot("hello", memroy="64M")
    with (
        hv.Host("4M") as host,
        pytest.raises(hv.ConfigError, match=r"qqq=: a machine has no such option. It has image, memory"),
    ):
        host.create_vm(qqq=1)


def test_a_vm_keeps_what_it_was_made_from() -> None:
    config = hv.MachineConfig(image="hello", memory="16M", seed=5, plugins=[])  # type: ignore[arg-type]  # a list is taken
    with hv.boot(config) as vm:
        assert vm.config is config and vm.config.plugins == ()
        vm.run(timeout=60).check()
        first = vm.console.text
    with hv.boot(config, memory="32M") as other:
        assert (other.config.memory, other.config.seed, other.memory.size) == ("32M", 5, 32 << 20)
        other.run(timeout=60).check()
        assert other.console.text == first
    with pytest.raises(FrozenInstanceError):
        config.cpus = 2  # type: ignore[misc]  # that is the point


def test_a_file_is_a_command_lines_machine_and_options_change_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[hv.MachineConfig] = []

    def boot(config: hv.MachineConfig, moment: str | None) -> None:
        made.append(config)
        raise hv.ConfigError("enough")

    monkeypatch.setattr(hv, "boot", boot, raising=False)
    file = tmp_path / "machine.toml"
    file.write_text('image = "hello"\nmemory = "16M"\nclock = "wall"\ncpus = 2\n')
    assert main(["run", "--config", str(file)]) == 125
    assert main(["run", "other", "--config", str(file), "--clock", "virtual", "--cpus", "4"]) == 125
    assert made == [
        hv.MachineConfig(image="hello", memory="16M", clock="wall", cpus=2),
        hv.MachineConfig(image="other", memory="16M", clock="virtual", cpus=4),
    ]
    assert capsys.readouterr().err == "hypervisor: enough\n" * 2


def test_the_command_line_has_the_same_options() -> None:
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]  # a group
    there = {name for each in command.params for name in each.opts}
    wanted = {option.name for _, option in options()} - {"IMAGE"}
    assert wanted <= there and "image" in {each.name for each in command.params}
    without = {each.name for each in fields(hv.MachineConfig)} - {each.name for each, _ in options()}
    alone = {"sharing", "identity"}  # on the host of a command, which has no other machines and no clones
    assert without == {"name", "board"} | alone, "each other field has an option, or this test says why not"
