"""Comparing states without what no manual defines."""

from __future__ import annotations

from dataclasses import replace

from .state import State


def defined_part(state: State) -> State:
    """``state`` with what no manual defines set to a fixed value, for comparing.

    A null segment register keeps no meaningful hidden part except a stack's DPL; the base and limit of CS mean
    nothing in 64-bit mode.
    """
    result = state.copy()
    for name, segment in state.segs.items():
        if state.protected and not state.v86 and not segment.selector & 0xFFFC:
            attributes = segment.attributes & 0x60 if name == "ss" else 0
            result.segs[name] = replace(segment, base=0, limit=0, attributes=attributes)
    code = result.segs["cs"]
    if state.long_mode and code.long:
        result.segs["cs"] = replace(code, base=0, limit=0)
    return result
