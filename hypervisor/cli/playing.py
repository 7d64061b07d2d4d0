"""``--type`` and ``--script``: what a person would do at the guest's keyboard and serial ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypervisor.errors import ConfigError

LONGEST = 1 << 20
"""Bytes of a script, which may come from a pipe or a device without an end."""

if TYPE_CHECKING:
    from hypervisor.machine.script import Playing, Step


def read_script(path: str | None) -> list[Step]:
    """The steps of the script file ``path``, checked. Raises `ConfigError`."""
    if path is None:
        return []
    from hypervisor.machine.script import parse

    try:
        with open(path, "rb") as file:
            data = file.read(LONGEST + 1)
        text = data.decode()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--script: {path!r} cannot be read: {reason}.") from error
    if len(data) > LONGEST:
        raise ConfigError(f"--script: {path} is larger than {LONGEST >> 20} MiB; no script is.")
    return parse(text, f"--script {path}")


def keys(text: str | None) -> str:
    """What ``--type`` types: its text, with escapes such as \\n. Raises `ConfigError`."""
    if not text:
        return ""
    from hypervisor.devices.scan_codes import strokes
    from hypervisor.machine.script import unescaped

    typed = unescaped(text)
    for character in typed:
        strokes(character)
    return typed


def play(vm: Any, steps: list[Step]) -> Playing | None:
    """The script, ready to be played while ``vm`` runs."""
    if not steps:
        return None
    from hypervisor.machine.script import Playing

    return Playing(vm, steps)
