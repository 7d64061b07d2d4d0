"""The time that an MC146818 keeps in its registers: BCD or binary, 12 or 24 hours; how it advances and meets the alarm.

Source: MC146818A data sheet (ADI1212), "Time, calendar and alarm locations". ``m`` is the chip's memory throughout. A
guest may store anything there: what is out of range counts as a value in range.
"""

from __future__ import annotations

from datetime import datetime

SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR = 0, 2, 4, 6, 7, 8, 9
SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM = 1, 3, 5
B, CENTURY = 0x0B, 0x32
B_BINARY, B_24H = 0x04, 0x02
HOUR_PM = 0x80
ANY = 0xC0
"""An alarm's field from here on matches every value."""

_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def set_date(m: bytearray, when: datetime) -> None:
    """Store a date and time in BCD and with 24 hours."""
    for register, value in (
        (SECONDS, when.second), (MINUTES, when.minute), (HOURS, when.hour), (WEEKDAY, when.isoweekday() % 7 + 1),
        (DAY, when.day), (MONTH, when.month), (YEAR, when.year % 100), (CENTURY, when.year // 100),
    ):  # fmt: skip
        m[register] = to_bcd(value)


def time_of_day(m: bytearray) -> int:
    """Seconds since midnight."""
    hour, minute, second = _hour(m, m[HOURS]), _number(m, m[MINUTES]), _number(m, m[SECONDS])
    return min(hour, 23) * 3600 + min(minute, 59) * 60 + min(second, 59)


def advance(m: bytearray, seconds: int) -> None:
    """Let ``seconds`` pass."""
    days, rest = divmod(time_of_day(m) + seconds, 86_400)
    m[HOURS] = _raw_hour(m, rest // 3600)
    m[MINUTES] = _raw(m, rest // 60 % 60)
    m[SECONDS] = _raw(m, rest % 60)
    if days == 0:
        return
    m[WEEKDAY] = _raw(m, (max(_number(m, m[WEEKDAY]), 1) - 1 + days) % 7 + 1)
    day, month = max(_number(m, m[DAY]), 1), min(max(_number(m, m[MONTH]), 1), 12)
    year = _number(m, m[YEAR]) % 100
    for _ in range(days):
        day += 1
        if day > _MONTH_DAYS[month - 1] + (month == 2 and year % 4 == 0):
            day, month = 1, month + 1
        if month > 12:
            month, year = 1, year + 1
        if year > 99:
            year = 0
            m[CENTURY] = to_bcd((from_bcd(m[CENTURY]) + 1) % 100)
    m[DAY], m[MONTH], m[YEAR] = _raw(m, day), _raw(m, month), _raw(m, year)


def seconds_to_alarm(m: bytearray) -> int | None:
    """How many updates until the time matches the alarm, 1 to 86400, or None if it never does."""
    second = None if m[SECONDS_ALARM] >= ANY else _number(m, m[SECONDS_ALARM])
    minute = None if m[MINUTES_ALARM] >= ANY else _number(m, m[MINUTES_ALARM])
    hour = None if m[HOURS_ALARM] >= ANY else _hour(m, m[HOURS_ALARM])
    if (second or 0) > 59 or (minute or 0) > 59 or (hour or 0) > 23:
        return None
    first = time_of_day(m) + 1
    at = first
    while True:
        if hour is not None and at // 3600 % 24 != hour:
            at = (at // 3600 + 1) * 3600
        elif minute is not None and at // 60 % 60 != minute:
            at = (at // 60 + 1) * 60
        elif second is not None and at % 60 != second:
            at += 1
        else:
            return at - first + 1


def to_bcd(value: int) -> int:
    """Two decimal digits, packed."""
    return value // 10 % 10 << 4 | value % 10


def from_bcd(raw: int) -> int:
    """The number that two packed digits mean; digits above 9 carry."""
    return (raw >> 4) * 10 + (raw & 15)


def _number(m: bytearray, raw: int) -> int:
    return raw if m[B] & B_BINARY else from_bcd(raw)


def _raw(m: bytearray, value: int) -> int:
    return value if m[B] & B_BINARY else to_bcd(value)


def _hour(m: bytearray, raw: int) -> int:
    if m[B] & B_24H:
        return _number(m, raw)
    return _number(m, raw & ~HOUR_PM) % 12 + (12 if raw & HOUR_PM else 0)


def _raw_hour(m: bytearray, hour: int) -> int:
    if m[B] & B_24H:
        return _raw(m, hour)
    return _raw(m, (hour + 11) % 12 + 1) | (HOUR_PM if hour >= 12 else 0)
