"""Options that a format cannot honour are refused: a command line that is silently dropped costs an afternoon."""

from __future__ import annotations

from hypervisor.errors import ConfigError
from hypervisor.loaders.boot_image import Image
from hypervisor.loaders.entry import BootSpec


def refuse_payload(image: Image, spec: BootSpec, what: str) -> None:
    """Raise `ConfigError` if ``spec`` has a command line, an initrd or modules, which ``what`` cannot receive."""
    given = [
        option
        for option, value in (("--append", spec.append), ("--initrd", spec.initrd), ("--module", spec.modules))
        if value
    ]
    if given:
        raise ConfigError(f"{image.name}: {what} cannot be given {' or '.join(given)}; leave that out.")
