"""labgrid's QEMU driver from PyPI: it starts us as it starts QEMU, and learns the same; what it can ask for beyond what
this board has is named.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hypervisor.cli.qemu.option_table import understood
from hypervisor.errors import ConfigError
from tests.programs import run
from tests.qemu_command import images, labgrid_package
from tests.qemu_command.programs import ROOT, commands

MORE = {
    "disk": {"kernel": None, "disk": "disk"},
    "ide": {"disk": "disk", "disk_opts": "if=ide,snapshot=on"},
    "rootfs": {"rootfs": "folder"},
    "dtb": {"dtb": "disk"},
    "flash": {"kernel": None, "flash": "disk", "display": "fb-headless"},
    "bios": {"kernel": None, "bios": "disk", "display": "qemu-default"},
    "egl": {"display": "egl-headless"},
    "nic": {"nic": "tap"},
    "no nic": {"nic": "none", "machine": "q35"},
    "virt": {"machine": "virt"},
}
"""Targets that are not started: their options beside those of the one that is."""
REFUSED = {
    "disk": "no virtio disks on this board; use if=ide",
    "rootfs": "no folder of the host",
    "dtb": "no device tree",
    "egl": "-device virtio-vga-gl: there are no virtio devices",
    "nic": "no network card",
    "virt": "no such board",
}


def talks(folder: Path, command: list[str], more: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What labgrid learns of a program, and how it would start it with ``more`` options, by name."""
    starter, configuration = folder / "starter", folder / "labgrid.yaml"
    starter.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {shlex.join(command)} "$@"\n')
    starter.chmod(0o755)
    (folder / "disk").write_bytes(bytes(1 << 16))
    usual = {
        **{"qemu_bin": "qemu", "machine": "pc", "cpu": "qemu64", "memory": "64M", "kernel": "kernel"},
        **{"boot_args": "as told", "extra_args": "-smp 2 -nodefaults"},
    }
    drivers = {name: {**usual, **options} for name, options in {"main": {}, **more}.items()}
    configuration.write_text(
        yaml.safe_dump(
            {
                "targets": {name: {"drivers": {"QEMUDriver": options}} for name, options in drivers.items()},
                "tools": {"qemu": str(starter)},
                "images": {"kernel": str(images.kernel(folder, images.SHELL)), "disk": str(folder / "disk")},
                "paths": {"folder": str(folder)},
            }
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(labgrid_package.folder())}
    said = run(sys.executable, Path(__file__).with_name("labgrid_session.py"), configuration, environment=environment)
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def test_labgrid_learns_what_it_learns_of_qemu(tmp_path: Path) -> None:
    found = {}
    for name, command in commands().items():
        (tmp_path / name).mkdir()
        found[name] = talks(tmp_path / name, command, MORE if name == "qemu" else {})
    learnt = found["ours"]["learnt"]
    assert learnt == json.loads(json.dumps(found["qemu"]["learnt"]).replace("/qemu/myos.bin", "/ours/myos.bin"))
    assert learnt["start"].endswith("myos.bin as told\n# ")
    for name, words in found["qemu"]["lines"].items():
        if name not in REFUSED:
            assert understood(words)
            continue
        with pytest.raises(ConfigError, match=REFUSED[name]):
            understood(words)
