"""State as data: records that say of each field what it may hold, from which copying, checking and encoding follow."""

from hypervisor.state.declared import (
    blob,
    counts,
    data,
    deadline,
    flag,
    names,
    number,
    numbers,
    part,
    parts,
    several,
    text,
    ticks,
    time_ns,
    u8,
)
from hypervisor.state.record import copied, from_plain, is_record, plain, record, wrong

__all__ = [
    "blob",
    "copied",
    "counts",
    "data",
    "deadline",
    "flag",
    "from_plain",
    "is_record",
    "names",
    "number",
    "numbers",
    "part",
    "parts",
    "plain",
    "record",
    "several",
    "text",
    "ticks",
    "time_ns",
    "u8",
    "wrong",
]
