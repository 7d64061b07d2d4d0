"""``python -m tests.sharing.simulated`` prints what policies do with simulated VMs, to be read and compared."""

from __future__ import annotations

from tests.sharing.scenes import SCENES

if __name__ == "__main__":
    for name, scene in SCENES.items():
        print(f"{scene.scheduler}: {name}\n{scene.text()}")
