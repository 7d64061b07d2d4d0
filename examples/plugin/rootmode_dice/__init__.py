"""A paravirtual die: an example plugin."""

from rootmode_dice.device import DiceDevice
from rootmode_dice.plugin import Dice

__all__ = ["Dice", "DiceDevice"]
