"""data: value types are frozen, compared by type and fields, and read by type checkers as dataclasses."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from sigkit.data import NOTHING, Data

if TYPE_CHECKING:
    from collections.abc import Mapping


class Point(Data):
    """A point."""

    x: int
    y: int = 0
    labels: Mapping[str, str] = NOTHING

    @property
    def sum(self) -> int:
        return self.x + self.y


class Pair(Data):
    """As many fields as a point, and another type."""

    x: int
    y: int = 0
    labels: Mapping[str, str] = NOTHING


class Blob(Data):
    """Bytes."""

    raw: bytes


class Mark(Data):
    """No fields."""


class OtherMark(Data):
    """No fields either."""


def test_fields_are_given_by_place_or_by_name_and_have_defaults():
    assert (Point(1).x, Point(1).y, Point(x=1, y=2).sum) == (1, 0, 3)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        pytest.param((), {}, id="missing"),
        pytest.param((1, 2, {}, 4), {}, id="too many"),
        pytest.param((1,), {"x": 2}, id="twice"),
        pytest.param((1,), {"z": 2}, id="unknown"),
    ],
)
def test_wrong_fields_are_a_type_error(args, kwargs):
    with pytest.raises(TypeError):
        Point(*args, **kwargs)


def made_often():
    class Often(Data):
        x: int
        y: int = 0
        labels: Mapping[str, str] = NOTHING

    assert len({Often(number) for number in range(100)}) == 100
    return Often


def test_a_class_whose_values_are_made_often_takes_the_same_fields():
    often = made_often()
    assert (often(1).x, often(1).y, often(1).labels, often(x=1, y=2).y, often(1, 2, {"a": "b"}).labels) == (1, 0, NOTHING, 2, {"a": "b"})
    for args, kwargs in (((), {}), ((1, 2, {}, 4), {}), ((1,), {"x": 2}), ((1,), {"z": 2})):
        with pytest.raises(TypeError):
            often(*args, **kwargs)
    with pytest.raises(AttributeError):
        often(1).x = 2


def test_a_class_with_a_default_before_a_field_without_one_is_made_often_too():
    class Odd(Data):
        x: int = 0
        y: int  # type: ignore[misc]  # the case: what makes such a class otherwise refuses it

    assert {(Odd(y=number).x, Odd(number, 1).y) for number in range(100)} == {(0, 1)}


def test_nothing_can_be_changed_added_or_deleted():
    point = Point(1)
    for name in ("x", "z"):
        with pytest.raises(AttributeError):
            setattr(point, name, 2)
    with pytest.raises(AttributeError):
        del point.x
    assert not hasattr(point, "__dict__")


def test_equality_needs_the_same_type():
    assert Point(1) == Point(1, 0)
    assert Point(1) != Point(2)
    assert Point(1) != Pair(1)
    assert Mark() == Mark()
    assert Mark() != OtherMark()
    assert Point(1) != (1, 0, {})


def test_values_are_true_whatever_they_hold():
    assert Mark()
    assert Point(0)


def test_equal_values_have_equal_hashes_and_mappings_do_not_hinder_one():
    assert hash(Point(1, labels={"a": "b"})) == hash(Point(1, labels=MappingProxyType({"a": "b"})))
    assert len({Point(1), Point(1), Pair(1), Point(2)}) == 3


def test_patterns_match_by_place():
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_a_representation_is_short():
    assert repr(Point(1)) == "Point(x=1, y=0, labels=mappingproxy({}))"
    assert repr(Blob(b"x" * 100)).startswith("Blob(raw=<100 bytes>")
