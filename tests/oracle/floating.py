"""Floating-point arithmetic as the manual has it, on MPFR: results bit for bit, flags and C1, exceptions masked.

AMD64 APM volume 1, 4.7 to 4.10 and 6.5 to 6.9; SDM volume 1, 4.8, 4.9 and 8.5. Numbers are MPFR's, exact; what is no
number is dealt with here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gmpy2
from gmpy2 import mpfr

IE, DE, ZE, OE, UE, PE = 1, 2, 4, 8, 0x10, 0x20
C1 = 0x200
ROUNDING = (gmpy2.RoundToNearest, gmpy2.RoundDown, gmpy2.RoundUp, gmpy2.RoundToZero)
"""By the value of RC."""
_WIDE = gmpy2.context(precision=256, emin=gmpy2.get_emin_min(), emax=gmpy2.get_emax_max())


class Format(NamedTuple):
    """A floating-point format: bits of the significand with the first one, of the exponent, and whether the first
    bit of the significand is stored.
    """

    precision: int
    exponent: int
    explicit: bool

    @property
    def largest(self) -> int:
        """The largest exponent, which is the bias."""
        return (1 << self.exponent - 1) - 1

    @property
    def stored(self) -> int:
        """Bits of the significand that are stored."""
        return self.precision - (not self.explicit)

    @property
    def indefinite(self) -> int:
        """The NaN that an invalid operation makes."""
        return self.infinity(1) | 1 << self.precision - 2

    def infinity(self, sign: int) -> int:
        """An infinity."""
        return (sign << self.exponent | (1 << self.exponent) - 1) << self.stored | self.explicit << self.precision - 1

    def zero(self, sign: int) -> int:
        """A zero."""
        return sign << self.exponent + self.stored


SINGLE, DOUBLE, EXTENDED = Format(24, 8, False), Format(53, 11, False), Format(64, 15, True)


class Operand:
    """An operand, taken apart."""

    def __init__(self, bits: int, form: Format) -> None:
        self.bits, self.form = bits, form
        self.sign = bits >> form.exponent + form.stored
        exponent = bits >> form.stored & (1 << form.exponent) - 1
        stored = bits & (1 << form.stored) - 1
        fraction = bits & (1 << form.precision - 1) - 1
        special = exponent == (1 << form.exponent) - 1
        self.unsupported = form.explicit and exponent != 0 and stored >> form.precision - 1 == 0
        self.nan = special and fraction != 0 and not self.unsupported
        self.quiet = self.nan and bool(fraction >> form.precision - 2)
        self.infinite = special and fraction == 0
        self.denormal = exponent == 0 and stored != 0
        self.significand = stored
        if special:
            self.value = gmpy2.inf(-1 if self.sign else 1)
            return
        first = 0 if form.explicit or exponent == 0 else 1 << form.precision - 1
        with gmpy2.context(_WIDE):
            scale = max(exponent, 1) - form.largest - form.precision + 1
            value = mpfr(stored | first)
            value = gmpy2.mul_2exp(value, scale) if scale >= 0 else gmpy2.div_2exp(value, -scale)
            self.value = -value if self.sign else value


def flushed(operand: Operand) -> Operand:
    """As it is with DAZ."""
    return Operand(operand.form.zero(operand.sign), operand.form) if operand.denormal else operand


def encode(value: mpfr, form: Format) -> int:
    """The bits of a value that the format has."""
    sign = int(gmpy2.is_signed(value))
    if gmpy2.is_infinite(value):
        return form.infinity(sign)
    if gmpy2.is_zero(value):
        return form.zero(sign)
    mantissa, exponent = value.as_mantissa_exp()
    mantissa = abs(int(mantissa))
    shift = form.precision - mantissa.bit_length()
    mantissa, exponent = mantissa << shift if shift >= 0 else mantissa >> -shift, int(exponent) - shift
    biased = exponent + form.precision - 1 + form.largest
    if biased < 1:
        mantissa, biased = mantissa >> 1 - biased, 0
    if not form.explicit:
        mantissa &= (1 << form.stored) - 1
    return (sign << form.exponent | biased) << form.stored | mantissa


def _x87_nan(operands: list[Operand]) -> int:
    """Which NaN an x87 instruction gives (SDM volume 1, table 4-7)."""
    nans = [operand for operand in operands if operand.nan]
    if len(nans) == 2 and nans[0].quiet != nans[1].quiet:
        nans = [operand for operand in nans if operand.quiet]
    return max(nans, key=lambda nan: (nan.significand, -nan.sign)).bits | 1 << 62


def nan_or_invalid(operands: list[Operand]) -> tuple[int, int] | None:
    """Result and flags where an operand is a NaN or unsupported."""
    form = operands[0].form
    if any(operand.unsupported for operand in operands):
        return form.indefinite, IE
    nans = [operand for operand in operands if operand.nan]
    if not nans:
        return None
    flags = 0 if all(nan.quiet for nan in nans) else IE
    return (_x87_nan(operands) if form.explicit else nans[0].bits | 1 << form.precision - 2), flags


def arithmetic(
    operation: str, operands: list[Operand], precision: int, rounding: int, flush: bool = False
) -> tuple[int, int]:
    """Result and flags of ``add``, ``sub``, ``mul``, ``div`` or ``sqrt``; C1 where the significand was rounded up.

    ``flush`` is FZ.
    """
    known = nan_or_invalid(operands)
    if known is not None:
        return known
    result, flags = _rounded(operation, operands, operands[0].form, precision, rounding, flush)
    denormal = any(operand.denormal for operand in operands)
    return result, flags | (DE if denormal and not flags & (IE | ZE) else 0)


def convert(operand: Operand, form: Format, rounding: int) -> tuple[int, int]:
    """The operand in another format, and flags. x87's stores do not tell of denormals, which SSE's conversions do."""
    if operand.unsupported:
        return form.indefinite, IE
    if operand.nan:
        shift = form.precision - operand.form.precision
        significand = operand.significand & (1 << operand.form.precision - 1) - 1
        significand = (significand << shift if shift >= 0 else significand >> -shift) | 1 << form.precision - 2
        return form.infinity(operand.sign) | significand, 0 if operand.quiet else IE
    result, flags = _rounded("plus", [operand], form, form.precision, rounding, False)
    return result, flags | (DE if operand.denormal and not operand.form.explicit else 0)


def _rounded(
    operation: str, operands: list[Operand], form: Format, precision: int, rounding: int, flush: bool
) -> tuple[int, int]:
    values = [operand.value for operand in operands]
    least = 1 - form.largest
    narrow = gmpy2.context(
        precision=precision, round=ROUNDING[rounding], subnormalize=True,
        emax=form.largest + 1, emin=least - precision + 2,
    )  # fmt: skip
    result: Any = getattr(narrow, operation)(*values)
    if gmpy2.is_nan(result):
        return form.indefinite, IE
    if narrow.divzero:
        return encode(result, form), ZE
    flags = 0
    wide = gmpy2.context(_WIDE, precision=precision, round=ROUNDING[rounding])
    unbounded = getattr(wide, operation)(*values)
    limit = gmpy2.exp2(least)
    tiny = -limit < unbounded < limit and not gmpy2.is_zero(unbounded)
    if tiny and flush:
        return form.zero(int(gmpy2.is_signed(unbounded))), UE | PE
    if narrow.inexact:
        flags = PE | (OE if narrow.overflow else 0) | (UE if tiny else 0)
        if (result.rc > 0) != gmpy2.is_signed(result):
            flags |= C1
    return encode(result, form), flags


def compare(first: Operand, second: Operand, quiet: bool) -> tuple[str, int]:
    """Which is greater: ``>``, ``<``, ``=`` or ``?``, and flags."""
    both = (first, second)
    if any(operand.unsupported for operand in both):
        return "?", IE
    if any(operand.nan for operand in both):
        return "?", IE if not quiet or any(operand.nan and not operand.quiet for operand in both) else 0
    flags = DE if any(operand.denormal for operand in both) else 0
    return ("=" if first.value == second.value else ">" if first.value > second.value else "<"), flags


def integer(operand: Operand, bits: int, rounding: int) -> tuple[int, int]:
    """The operand as an integer of so many bits, and flags."""
    indefinite = 1 << bits - 1
    if operand.nan or operand.unsupported or operand.infinite:
        return indefinite, IE
    exact = gmpy2.mpq(operand.value)
    low = int(exact.numerator // exact.denominator)
    rest = exact - low
    up = (
        rest > gmpy2.mpq(1, 2) or (rest == gmpy2.mpq(1, 2) and low & 1) if rounding == 0
        else rounding == 2 if rounding != 3
        else operand.sign
    )  # fmt: skip
    result = low + (1 if rest and up else 0)
    if not -indefinite <= result < indefinite:
        return indefinite, IE
    flags = PE if rest else 0
    if rest and abs(result) > abs(exact):
        flags |= C1
    return result & (1 << bits) - 1, flags
