"""``hypervisor run --save``, ``hypervisor run FILE`` and ``hypervisor info``."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor import ConfigError, MachineConfig
from hypervisor.cli.run_options import RunOptions
from tests.cli.command import hypervisor

HELLO = MachineConfig(image="hello")


def test_a_machine_is_saved_where_it_wrote_a_text_and_goes_on_from_there(tmp_path: Path) -> None:
    file = str(tmp_path / "there.hvs")
    whole = hypervisor("run", "long").stdout
    first = hypervisor("run", "long", "--until", "ring 3", "--save", file)
    assert first.returncode == 0
    assert first.stderr == f"hypervisor: the machine is saved in {file}; `hypervisor run {file}` goes on.\n".encode()
    second = hypervisor("run", file)
    assert (second.returncode, second.stderr) == (33, b"")
    assert first.stdout.endswith(b"ring 3") and second.stdout and first.stdout + second.stdout == whole


def test_a_machine_is_saved_where_its_time_ran_out(tmp_path: Path) -> None:
    file = str(tmp_path / "there.hvs")
    first = hypervisor("run", "preempt", "--virtual-timeout", "0.03", "--save", file)
    assert first.returncode == 124 and b"the machine is saved in" in first.stderr
    assert hypervisor("run", file).stdout.endswith(b"good\n")


def test_a_text_that_never_comes_saves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "there.hvs"
    result = hypervisor("run", "hello", "--until", "never", "--save", str(file))
    assert result.returncode == 125
    assert b"--until: the run ended, and the guest has not written 'never'." in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_saved_is_a_sentence(tmp_path: Path) -> None:
    result = hypervisor("run", "hello", "--save", str(tmp_path / "no" / "folder"))
    assert (
        result.returncode == 125
        and b"cannot be written (No such file or directory); nothing was saved." in result.stderr
    )


def test_a_damaged_file_does_not_run(tmp_path: Path) -> None:
    file = tmp_path / "there.hvs"
    hypervisor("run", "hello", "--until", "Hello", "--save", str(file))
    file.write_bytes(file.read_bytes()[:-1])
    for command in ("run", "info"):
        result = hypervisor(command, str(file))
        assert (result.returncode, result.stdout) == (125, b"")
        assert result.stderr.startswith(f"hypervisor: {file} is damaged or cut short".encode())


def test_info_says_what_is_in_a_file(tmp_path: Path) -> None:
    file, disk = tmp_path / "there.hvs", tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    hypervisor("run", "hello", "--memory", "4M", "--disk", str(disk), "--until", "Hello", "--save", str(file))
    told = dict(line.split("\t", 1) for line in hypervisor("info", str(file)).stdout.decode().splitlines())
    assert told["file"].startswith(
        f"{file.stat().st_size / (1 << 20):.1f} MiB, compressed, undamaged; format 1, saved by"
    )
    assert (told["image"], told["memory"]) == ("hello", "4M")
    assert told["disk 0"] == f"{disk} (1048576 bytes): unchanged"
    assert told["RAM"].endswith("of 4.00 MiB hold something")
    assert told["vcpu 0"].startswith("RIP 0x") and told["time"].endswith(" s") and told["console"].startswith("Hello")
    disk.write_bytes(b"x" * (1 << 20))
    assert f"{disk} (1048576 bytes): CHANGED since" in hypervisor("info", str(file)).stdout.decode()
    disk.unlink()
    assert f"{disk} (1048576 bytes): not there" in hypervisor("info", str(file)).stdout.decode()


def test_options_of_a_machine_are_not_changed(tmp_path: Path) -> None:
    file = str(tmp_path / "there.hvs")
    hypervisor("run", "hello", "--until", "Hello", "--save", file)
    result = hypervisor("run", file, "--cpus", "2")
    assert result.returncode == 125 and b"cpus=: a machine that is opened from a file has what" in result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"until": "x", "script": "file"}, "--until and --script"),
        ({"until": ""}, "--until is empty"),
        ({"embed": True}, "--embed is about a file"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RunOptions(HELLO, **options)  # type: ignore[arg-type]
