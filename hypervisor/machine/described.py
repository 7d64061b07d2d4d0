"""What a caller means by an image and options: a configuration, or a machine in a file that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from hypervisor.backends.image_source import ImageLike
from hypervisor.errors import ConfigError
from hypervisor.run.threads.short_turns import short_turns
from hypervisor.vm.config import DEFAULT, MachineConfig
from hypervisor.vm.saved.magic import is_saved

if TYPE_CHECKING:
    from hypervisor.vm.saved.opening import SavedMachine


def described(
    image: ImageLike | MachineConfig | None, options: Mapping[str, Any], moment: str | None, opened: ExitStack
) -> tuple[MachineConfig, SavedMachine | None]:
    """The configuration that is meant, and, if the image is the file of a machine, that machine, which is closed with
    ``opened``; ``moment`` says which one of several in a file.

    Raises `ConfigError`, `ImageError`, `PluginError`.
    """
    config = MachineConfig.of(image, options)
    if config.image is None or not is_saved(config.image):
        if moment is not None:
            raise ConfigError(f"moment={moment!r}: that says which machine of a file is meant, and the image is none.")
        return config, None
    from hypervisor.vm.saved.opening import SavedMachine

    if isinstance(image, MachineConfig):
        options = {each.name: getattr(config, each.name) for each in fields(config)}
        options = {name: value for name, value in options.items() if value != getattr(DEFAULT, name)}
    given = {name: value for name, value in options.items() if name != "image"}
    opened.enter_context(short_turns())  # for those who read its pages while the machine is built
    saved = opened.enter_context(SavedMachine(str(config.image), moment))
    if saved.of_world:
        raise ConfigError(
            f"{saved.name} holds a world of machines on networks ({', '.join(saved.moments)}), which go on together: "
            "open it with hypervisor.World.open()."
        )
    return saved.opened(given), saved
