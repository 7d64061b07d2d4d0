"""Records: what is generated from declarations, compared with values made at random from the same declarations."""

from __future__ import annotations

import re
import threading
from copy import deepcopy
from dataclasses import fields
from random import Random
from typing import Any

import pytest

from hypervisor import state as s
from hypervisor.state import cbor
from hypervisor.state.kinds import Data, Flag, Number, Part, Parts, Real, Several, Text, Words
from hypervisor.state.record import kinds

MOST = 50
"""Bytes, characters and elements of a random value, where there may be more."""


@s.record
class Wheel:
    turns: int = s.number(-5, 1 << 200)
    flat: bool = s.flag()


@s.record
class Car:
    colour: int = s.u8(7)
    since: int = s.time_ns()
    owner: str = s.text(10, "nobody")
    plate: bytearray = s.data(4, b"ABCD", exact=True)
    luggage: bytearray = s.data(10)
    papers: bytes = s.blob(100, b"papers")
    places: list[int] = s.numbers(4, 0, 9)
    gears: list[int] = s.numbers(3, 1, 3, (1, 2, 3), exact=True)
    stickers: list[str] = s.names(3, 5)
    trips: dict[str, int] = s.words(3, -1, 1 << 40)
    price: float = s.real(1.5)
    spare: Wheel = s.part(Wheel)
    wheels: list[Wheel] = s.parts(Wheel, 4)
    trailer: list[Wheel] = s.several(Wheel, 2)


def random_text(rng: Random, limit: int) -> str:
    return "".join(rng.choice("aé😀\n☃") for _ in range(rng.randint(0, min(limit, MOST))))


def count(kind: Any, rng: Random) -> int:
    """How many a kind has: sometimes as many as it can, within reason."""
    most = min(kind.limit, MOST)
    return kind.limit if getattr(kind, "exact", False) else rng.choice((0, most, rng.randint(0, min(most, 4))))


def value(kind: Any, rng: Random) -> Any:
    """A value of a kind, with its limits more often than others."""
    match kind:
        case Number():
            small = min(max(rng.randint(0, 3), kind.low), kind.high)
            return rng.choice((kind.low, kind.high, rng.randint(kind.low, kind.high), small))
        case Flag():
            return rng.random() < 0.5
        case Data():
            content = rng.randbytes(count(kind, rng))
            return content if kind.constant else bytearray(content)
        case Text():
            return random_text(rng, kind.limit)
        case Several():
            return [value(kind.each, rng) for _ in range(count(kind, rng))]
        case Words():
            return {random_text(rng, 5): value(Number(kind.low, kind.high), rng) for _ in range(count(kind, rng))}
        case Real():
            return rng.choice((0.0, rng.random(), 1e300))
        case Part():
            return filled(kind.record, rng)
        case Parts():
            return [filled(kind.record, rng) for _ in range(count(kind, rng))]
    raise AssertionError(kind)


def filled(cls: type[Any], rng: Random) -> Any:
    return cls(**{name: value(kind, rng) for name, kind in kinds(cls).items()})


@pytest.mark.parametrize("seed", range(30))
def test_a_copy_is_equal_and_has_nothing_in_common(seed: int) -> None:
    car = filled(Car, Random(seed))
    copy = s.copied(car)
    assert copy == car == deepcopy(car)
    for name, kind in kinds(Car).items():
        ours, theirs = getattr(car, name), getattr(copy, name)
        if isinstance(kind, (Data, Several, Words, Part, Parts)) and not (isinstance(kind, Data) and kind.constant):
            assert ours is not theirs, name
    assert all(a is not b for a, b in zip(car.wheels, copy.wheels, strict=True))


@pytest.mark.parametrize("seed", range(30))
def test_a_record_comes_back_from_bytes(seed: int) -> None:
    car = filled(Car, Random(seed))
    content = cbor.encode(s.plain(car))
    assert s.from_plain(Car, cbor.decode(content)) == car
    assert content == cbor.encode(s.plain(s.copied(car)))


def test_defaults_are_good_and_not_shared() -> None:
    one, other = Car(), Car()
    assert s.wrong(Car, one) is None
    one.wheels[0].turns = 3
    one.plate[0] = 0
    assert other == Car()


WRONG: dict[str, list[tuple[Any, str]]] = {
    "colour": [(256, "from 0 to 255"), (-1, "-1"), (True, "True"), (None, "None"), (1 << 9999, "of 1250 bytes")],
    "since": [(1 << 63, "integer"), (1.0, "1.0")],
    "owner": [("x" * 11, "at most 10 characters"), (b"x", "must be a text"), ("\ud800", "characters of UTF-8")],
    "plate": [(bytearray(5), "has 5 bytes, but must have 4"), (b"ABCD", "must be a bytearray")],
    "luggage": [(bytearray(11), "at most 10"), ("", "must be a bytearray")],
    "papers": [(bytes(101), "at most 100"), (bytearray(1), "must be a bytes")],
    "places": [([1] * 5, "has 5 integers, but must have at most 4"), ([1, 10], r"places\[1\] is 10"), ((1,), "list")],
    "gears": [([1, 2], "has 2 integers, but must have 3"), ([0, 1, 2], r"gears\[0\] is 0")],
    "stickers": [(["x"] * 4, "at most 3"), (["abcdef"], r"stickers\[0\]")],
    "trips": [({"x": -2}, "from -1 to"), ({1: 1}, "by their names"), ([], "by their names")],
    "price": [(1, "floating-point"), (None, "None")],
    "spare": [(None, "must be a Wheel"), (Wheel(turns=-6), r"spare.turns is -6"), (Wheel(flat=0), "spare.flat is 0")],  # type: ignore[arg-type]
    "wheels": [
        ([Wheel()] * 3, "a list of 4 Wheel"),
        ([Wheel(), Wheel(), 3, Wheel()], r"wheels\[2\] is of type int"),
        ([Wheel(), Wheel(-9), Wheel(), Wheel()], r"wheels\[1\].turns is -9"),
    ],
    "trailer": [([Wheel()] * 3, "at most 2 Wheel"), (None, "list")],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name: str) -> None:
    for bad, sentence in WRONG[name]:
        car = Car()
        setattr(car, name, bad)
        said = s.wrong(Car, car, "car")
        assert said is not None and said.startswith(f"car.{name}") and re.search(sentence, said), said


def test_every_field_has_a_wrong_value() -> None:
    assert set(WRONG) == {each.name for each in fields(Car)}


def test_a_slot_without_a_value_is_told() -> None:
    assert s.wrong(Car, object.__new__(Car)) == "state.colour is not there"
    assert s.wrong(Car, Wheel()) == "state is of type Wheel, but must be a Car"


def test_only_records_are_taken() -> None:
    with pytest.raises(TypeError, match="Random is no record"):
        s.copied(Random())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda p: p.pop("owner"), "state has no field 'owner'"),
        (lambda p: p.update(wings=2), "state has a field 'wings'"),
        (lambda p: p["spare"].pop("flat"), "state.spare has no field 'flat'"),
        (lambda p: p["wheels"].append(p["spare"]), "state.wheels must be a list of 4 Wheel"),
        (lambda p: p["wheels"][0].update(turns=b""), r"state.wheels\[0\].turns is b''"),
        (lambda p: p.update(wheels=[1, 2, 3, 4]), r"state.wheels\[0\] is 1, but must be the fields of a Wheel"),
        (lambda p: p.update(spare=[]), "state.spare is a list of 0, but must be the fields"),
        (lambda p: p.update(plate="ABCD"), "state.plate is of type str"),
    ],
)
def test_bad_fields_from_outside_are_refused(change: Any, sentence: str) -> None:
    values = cbor.decode(cbor.encode(s.plain(Car())))
    change(values)
    with pytest.raises(ValueError, match=sentence):
        s.from_plain(Car, values)


def test_random_damage_never_raises_anything_else() -> None:
    rng = Random(5)
    good = cbor.encode(s.plain(filled(Car, rng)))
    refused = 0
    for _ in range(4000):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            bad[rng.randrange(len(bad))] = rng.getrandbits(8)
        del bad[rng.choice((len(bad), rng.randrange(len(bad)))) :]
        try:
            s.from_plain(Car, cbor.decode(bytes(bad)))
        except ValueError:
            refused += 1
    assert refused > 2000


def test_trusted_records_are_not_looked_at_in_this_thread_and_block_alone() -> None:
    """Who puts back what it took itself says so; beside that, in another thread and behind it all is as ever."""
    bad, seen = Wheel(turns=-6), list[str | None]()

    def look() -> None:
        seen.append(s.wrong(Wheel, bad))

    with pytest.raises(KeyError), s.trusted():
        with s.trusted():
            look()
        look()
        assert s.wrong(Car, bad) is not None, "a record of another class is none of these"
        other = threading.Thread(target=look)
        other.start()
        other.join()
        raise KeyError
    look()
    assert [one is None for one in seen] == [True, True, False, False]
