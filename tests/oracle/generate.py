"""The seeded generators: `random_walk` for page walks, `random_event` for deliveries."""

from __future__ import annotations

from .generate_event import EVENT_MODES, EventCase, random_event
from .generate_walk import WALK_MODES, WalkCase, random_walk

__all__ = ["EVENT_MODES", "WALK_MODES", "EventCase", "WalkCase", "random_event", "random_walk"]
