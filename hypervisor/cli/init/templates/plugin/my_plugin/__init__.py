"""A paravirtual die, as a plugin of rootmode."""

from my_plugin.device import DiceDevice
from my_plugin.plugin import MyPlugin

__all__ = ["DiceDevice", "MyPlugin"]
