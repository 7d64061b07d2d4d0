"""x87 and SSE arithmetic beside MPFR: classes of operands by rounding and precision, results and flags exact.

Each operation is done twice, with the flags clear and with all of them set, since the engine goes two ways
(`hypervisor.engine.floating_point.x87_code`).
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

import hypervisor as hv
from tests.core.bare import bare
from tests.oracle import floating
from tests.oracle.floating import C1, DOUBLE, EXTENDED, SINGLE, Format, Operand

INPUT, OUTPUT = 0x20000, 0x50000
MASKS, DAZ, FZ = 0x1F80, 0x40, 0x8000
SUFFIX = {"ss": SINGLE, "sd": DOUBLE}


def classes(form: Format) -> list[int]:
    """Zeros, ones, limits, denormals, infinities, NaNs, and what the extended format has besides."""
    one = form.largest << form.stored | form.explicit << 63
    top = form.explicit << 63
    magnitudes = [
        0, 1, 3, (1 << form.precision - 1) - 1, 1 << form.stored | top, (1 << form.stored | top) + 1,
        one, one + 1, one + (1 << form.stored), one + (1 << form.precision - 2), one - (1 << form.stored), one + 2,
        form.infinity(0) - (1 << form.stored) | (1 << form.stored) - 1, form.infinity(0), form.infinity(0) + 1,
        form.infinity(0) + (1 << form.precision - 2) + 5,
    ]  # fmt: skip
    if form.explicit:
        magnitudes += [top, top + 1, one - top, one - top + 1, form.infinity(0) - top]
    return magnitudes + [value | form.zero(1) for value in magnitudes]


def operands(form: Format, seed: int) -> list[tuple[int, int]]:
    """A third of the pairs of each class with each, and numbers at random that are close to each other in size."""
    special = classes(form)
    pairs = [(a, b) for a in special for b in special][seed % 3 :: 3]
    chance = random.Random(seed)

    def number(exponent: int) -> int:
        significand = chance.getrandbits(form.stored) | form.explicit << 63
        return chance.getrandbits(1) << form.exponent + form.stored | exponent << form.stored | significand

    for _ in range(200):
        exponent = chance.randrange(1, 2 * form.largest)
        pairs.append((number(exponent), number(min(max(exponent + chance.randrange(-70, 70), 1), 2 * form.largest))))
    return pairs


def run(step: str, pairs: list[tuple[int, int]], start: str = "") -> list[bytes]:
    """What ``step`` leaves in 32 bytes at RDI for each pair at RSI."""
    code = f"mov esi, {INPUT}; mov edi, {OUTPUT}; mov ecx, {len(pairs)}; {start}; again: {step}"
    with bare(f"{code}; add esi, 32; add edi, 32; dec ecx; jnz again; hlt") as vm:
        vm.vcpu.cr4 |= 0x600
        data = b"".join(a.to_bytes(16, "little") + b.to_bytes(16, "little") for a, b in pairs)
        vm.memory.write(INPUT, data)
        assert vm.run(timeout=60).reason is hv.Reason.HALTED
        left = vm.memory.read(OUTPUT, 32 * len(pairs))
    return [left[n : n + 32] for n in range(0, len(left), 32)]


def _bytes(code: str) -> str:
    return ".byte " + ", ".join(f"0x{byte:x}" for byte in bytes.fromhex(code))


def x87(operation: str, pairs: list[tuple[int, int]], control: int, again: bool) -> list[bytes]:
    """Results of an operation on ST(1) and ST(0) that leaves one register: the value, and at 16 the status word."""
    flags = "" if again else "fnclex;"
    loads = "fld tbyte ptr [rsi]; fld tbyte ptr [rsi + 16];"
    stores = "fnstsw ax; mov [rdi + 16], ax; fstp tbyte ptr [rdi]"
    start = f"fninit; mov word ptr [0x1f040], {control}; fldcw [0x1f040]"
    return run(f"{flags} {loads} {operation}; {stores}", pairs, start)


def check(
    results: list[bytes],
    pairs: list[tuple[int, int]],
    size: int,
    known: int,
    expected: Callable[[int, int], tuple[int, int]],
) -> None:
    """Compare values of ``size`` bytes, and the bits ``known`` of the status word."""
    wrong = []
    for (a, b), left in zip(pairs, results, strict=True):
        got = int.from_bytes(left[:size], "little"), int.from_bytes(left[16:18], "little") & known
        value, flags = expected(a, b)
        if got != (value, flags & known):
            wrong.append(f"{a:#x} {b:#x}: {got[0]:#x} {got[1]:#x}, not {value:#x} {flags & known:#x}")
    assert not wrong, f"{len(wrong)} of {len(pairs)}\n" + "\n".join(wrong[:20])


ARITHMETIC = {"add": "dec1", "sub": "dee9", "mul": "dec9", "div": "def9", "sqrt": "ddd9d9fa"}


@pytest.mark.parametrize("again", [False, True], ids=["clear", "set"])
@pytest.mark.parametrize("precision", [24, 53, 64])
@pytest.mark.parametrize("operation", ARITHMETIC)
def test_x87_arithmetic(operation: str, precision: int, again: bool) -> None:
    pairs = operands(EXTENDED, precision)
    if operation == "sqrt":
        pairs = [(0, a) for a in classes(EXTENDED)] + pairs[-200:]
    for rounding in range(4):
        control = 0x3F | {24: 0, 53: 2, 64: 3}[precision] << 8 | rounding << 10

        def expected(a: int, b: int, rounding: int = rounding) -> tuple[int, int]:
            taken = [Operand(b, EXTENDED)] if operation == "sqrt" else [Operand(a, EXTENDED), Operand(b, EXTENDED)]
            return floating.arithmetic(operation, taken, precision, rounding)

        results = x87(_bytes(ARITHMETIC[operation]), pairs, control, again)
        check(results, pairs, 10, C1 if again else C1 | 0x3F, expected)


@pytest.mark.parametrize("again", [False, True], ids=["clear", "set"])
@pytest.mark.parametrize("quiet", [False, True])
def test_x87_comparisons(quiet: bool, again: bool) -> None:
    conditions = {">": 0, "<": 0x100, "=": 0x4000, "?": 0x4500}
    pairs = operands(EXTENDED, 2)

    def expected(a: int, b: int) -> tuple[int, int]:
        which, flags = floating.compare(Operand(b, EXTENDED), Operand(a, EXTENDED), quiet)
        return b, flags | conditions[which]

    operation = _bytes("dde1" if quiet else "d8d1") + "; fnstsw ax; mov [rdi + 16], ax;" + _bytes("ddd9")
    loads = f"{'' if again else 'fnclex;'} fld tbyte ptr [rsi]; fld tbyte ptr [rsi + 16]"
    left = run(f"{loads}; {operation}; fstp tbyte ptr [rdi]", pairs, "fninit")
    check(left, pairs, 10, 0x4700 | (0 if again else 0x3F), expected)


STORES = {"dword": ("d91f", SINGLE), "qword": ("dd1f", DOUBLE)}
INTEGERS = {"word": ("df1f", 16), "dword": ("db1f", 32), "qword": ("df3f", 64)}
TRUNCATED = {"word": ("df0f", 16), "dword": ("db0f", 32), "qword": ("dd0f", 64)}


@pytest.mark.parametrize("again", [False, True], ids=["clear", "set"])
@pytest.mark.parametrize("rounding", range(4))
def test_x87_stores_in_other_formats(rounding: int, again: bool) -> None:
    values = (
        classes(EXTENDED)
        + [a for a, _ in operands(EXTENDED, 3)[-200:]]
        + [
            sign | (0x3FFF + exponent) << 64 | significand
            for sign in (0, 1 << 79)
            for exponent in (
                -1,
                0,
                1,
                14,
                15,
                30,
                31,
                62,
                63,
                127,
                128,
                -126,
                -127,
                -149,
                -150,
                1023,
                1024,
                -1022,
                -1074,
            )
            for significand in (1 << 63, (1 << 64) - 1, 3 << 62, (1 << 63) + 1, 0xFFFFFFFF << 32, 0xFFFFFFFFFFFFF800)
        ]
    )
    pairs = [(value, 0) for value in values]
    start = f"fninit; mov word ptr [0x1f040], {0x33F | rounding << 10}; fldcw [0x1f040]"
    known = C1 if again else C1 | 0x3F

    def stored(code: str) -> list[bytes]:
        step = f"{'' if again else 'fnclex;'} fld tbyte ptr [rsi]; {_bytes(code)}; fnstsw ax; mov [rdi + 16], ax"
        return run(step, pairs, start)

    for code, form in STORES.values():

        def narrowed(a: int, _: int, form: Format = form) -> tuple[int, int]:
            return floating.convert(Operand(a, EXTENDED), form, rounding)

        check(stored(code), pairs, (form.exponent + form.precision) // 8, known, narrowed)
    for table, chop in ((INTEGERS, False), (TRUNCATED, True)):
        for code, bits in table.values():

            def whole(a: int, _: int, bits: int = bits, chop: bool = chop) -> tuple[int, int]:
                return floating.integer(Operand(a, EXTENDED), bits, 3 if chop else rounding)

            check(stored(code), pairs, bits // 8, known, whole)


def sse(operation: str, pairs: list[tuple[int, int]], mxcsr: int, again: bool) -> list[bytes]:
    """Results of an operation on XMM0 and XMM1: the low half of XMM0, and at 16 MXCSR's flags."""
    load = "" if again else "ldmxcsr [0x1f040];"
    step = f"{load} movups xmm0, [rsi]; movups xmm1, [rsi + 16]; {operation}; movups [rdi], xmm0; stmxcsr [rdi + 16]"
    start = f"mov dword ptr [0x1f040], {MASKS | mxcsr | (0x3F if again else 0)}; ldmxcsr [0x1f040]"
    return run(step, pairs, start)


@pytest.mark.parametrize("again", [False, True], ids=["clear", "set"])
@pytest.mark.parametrize("zeros", [0, DAZ, FZ, DAZ | FZ])
@pytest.mark.parametrize("suffix", SUFFIX)
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "div", "sqrt"])
def test_sse_arithmetic(operation: str, suffix: str, zeros: int, again: bool) -> None:
    form = SUFFIX[suffix]
    pairs = operands(form, 4)
    for rounding in range(4):

        def expected(a: int, b: int, rounding: int = rounding) -> tuple[int, int]:
            taken = [Operand(b, form)] if operation == "sqrt" else [Operand(a, form), Operand(b, form)]
            if zeros & DAZ:
                taken = [floating.flushed(operand) for operand in taken]
            return floating.arithmetic(operation, taken, form.precision, rounding, bool(zeros & FZ))

        left = sse(f"{operation}{suffix} xmm0, xmm1", pairs, zeros | rounding << 13, again)
        check(left, pairs, (form.exponent + form.precision) // 8, 0x3F & (0 if again else -1), expected)


RELATIONS = {0: "=", 1: "<", 2: "<=", 3: "?", 4: "><?", 5: ">=?", 6: ">?", 7: "<>="}


@pytest.mark.parametrize("again", [False, True], ids=["clear", "set"])
@pytest.mark.parametrize("daz", [0, DAZ])
@pytest.mark.parametrize("suffix", SUFFIX)
def test_sse_comparisons(suffix: str, daz: int, again: bool) -> None:
    form = SUFFIX[suffix]
    pairs, size = operands(form, 5), (form.exponent + form.precision) // 8

    def taken(a: int, b: int) -> tuple[Operand, Operand]:
        first, second = Operand(a, form), Operand(b, form)
        return (floating.flushed(first), floating.flushed(second)) if daz else (first, second)

    for number, holds in RELATIONS.items():

        def mask(a: int, b: int, holds: str = holds, quiet: bool = number in (0, 3, 4, 7)) -> tuple[int, int]:
            which, flags = floating.compare(*taken(a, b), quiet)
            return ((1 << 8 * size) - 1 if which in holds else 0), flags

        left = sse(f"cmp{suffix} xmm0, xmm1, {number}", pairs, daz, again)
        check(left, pairs, size, 0 if again else 0x3F, mask)
    for name, wanted in (("min", "<"), ("max", ">")):

        def chosen(a: int, b: int, wanted: str = wanted) -> tuple[int, int]:
            first, second = taken(a, b)
            which, flags = floating.compare(first, second, False)
            return (first.bits if which == wanted else second.bits), flags

        check(sse(f"{name}{suffix} xmm0, xmm1", pairs, daz, again), pairs, size, 0 if again else 0x3F, chosen)


@pytest.mark.parametrize("again", [False, True], ids=["clear", "set"])
@pytest.mark.parametrize("rounding", range(4))
@pytest.mark.parametrize("suffix", SUFFIX)
def test_sse_conversions(suffix: str, rounding: int, again: bool) -> None:
    form = SUFFIX[suffix]
    pairs = operands(form, 6)
    pairs += [(0, encoded) for encoded in (0x4F000000, 0xCF000000, 0x5F000000, 0x41DFFFFFFFC00000, 0x41E << 52)]
    known, width = 0 if again else 0x3F, (1 << form.exponent + form.precision) - 1
    for name, chop in ((f"cvt{suffix}2si", False), (f"cvtt{suffix}2si", True)):
        for register, bits in (("eax", 32), ("rax", 64)):

            def whole(a: int, b: int, bits: int = bits, chop: bool = chop) -> tuple[int, int]:
                return floating.integer(Operand(b & width, form), bits, 3 if chop else rounding)

            step = f"{name} {register}, xmm1; movq xmm0, rax"
            check(sse(step, pairs, rounding << 13, again), pairs, bits // 8, known, whole)
    other, name = (DOUBLE, "cvtss2sd") if suffix == "ss" else (SINGLE, "cvtsd2ss")

    def converted(a: int, b: int) -> tuple[int, int]:
        return floating.convert(Operand(b & width, form), other, rounding)

    left = sse(f"{name} xmm0, xmm1", pairs, rounding << 13, again)
    check(left, pairs, (other.exponent + other.precision) // 8, known, converted)
